/**
 * The power fails while a session is saved: what comes back is all of it or nothing, and never half of an application.
 * TORPOR_TEST_CUTS says how many times, and TORPOR_TEST_SEED at which moments.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Session, Snapshot, Workload } from '../../api/types.ts';
import { numbers } from '../support/numbers.ts';
import { noVirtualMachine, type VirtualMachine } from '../support/virtual-machine.ts';
import { isWhole, makeMachine } from './machine.ts';
import { type Counter, type Restored, Torpor } from './workloads.ts';

const cuts = Number(process.env.TORPOR_TEST_CUTS ?? (isWhole ? 10 : 2));
const seed = Number(process.env.TORPOR_TEST_SEED ?? Date.now() % 1_000_000);
/** What is saved before the first cut, and comes back where a cut left nothing. */
const base = 'base';
const names = ['first', 'second'];

describe.skipIf(noVirtualMachine)(`a power cut${noVirtualMachine ? ` (${noVirtualMachine})` : ''}`, () => {
  let machine: VirtualMachine;
  let torpor: Torpor;
  let counters: Counter[];
  let saveMs: number;

  const save = (session: string) => torpor.json('session save', `${session} ${names.join(' ')}`);
  const restore = (session: string) => torpor.json<Restored>('session restore', session);

  beforeAll(async () => {
    machine = await makeMachine();
    await machine.boot();
    torpor = new Torpor(machine);
    counters = [];
    for (const name of names) counters.push(await torpor.startCounter(name));
    const start = Date.now();
    await save(base);
    saveMs = Date.now() - start;
    // What a cut then takes is what came after.
    await machine.say('sync');
    await restore(base);
  }, 600_000);
  afterAll(async () => machine?.[Symbol.asyncDispose]());

  it(`leaves all of a session or nothing, ${cuts} times (seed ${seed})`, {
    timeout: cuts * 240_000,
  }, async () => {
    console.log(`seed ${seed}: a whole save takes ${saveMs} ms`);
    const random = numbers(seed);
    for (let cut = 1; cut <= cuts; cut++) {
      const session = `cut${cut}`;
      // One in each part of it, so that few of them meet all of it, too.
      const part = (saveMs * 1.1) / cuts;
      const afterMs = Math.round((cut - 1) * part + (random.next().value % Math.ceil(part)));
      const before = (await torpor.json<Snapshot[]>('snapshots')).map(({ id }) => id);
      const saving = save(session).then(
        () => true,
        () => false,
      );
      await sleep(afterMs);
      await machine.pullPlug();
      const wasSaved = await saving;
      await machine.boot();

      const verified = await machine.run('torpor verify --read-data', { limitMs: 300_000 });
      expect(verified, verified.stdout + verified.stderr).toMatchObject({ code: 0 });
      const found = (await torpor.json<Session[]>('session ls')).find(({ name }) => name === session);
      console.log(
        `cut ${cut} after ${afterMs} ms: ${found === undefined ? 'nothing' : 'the session'} is there`,
      );
      if (found === undefined) expect(wasSaved).toBe(false);
      else
        expect(found.members.map(({ name, state }) => `${name} ${state}`).sort()).toEqual(
          names.map((name) => `${name} ready`),
        );

      const standing: number[] = [];
      for (const counter of counters) standing.push((await counter.numbers()).length);
      if (found === undefined) {
        // Nothing is suspended in what was cut, but at most in what was there before.
        for (const { id, state, snapshot } of await torpor.json<Workload[]>('ps')) {
          if (state !== 'suspended') continue;
          expect(before).toContain(snapshot);
          await torpor.json<Workload>('resume', id);
        }
      }
      const { left } = await restore(found === undefined ? base : session);
      expect(left.filter(({ what }) => !what.includes('is running already'))).toEqual([]);
      for (const [index, counter] of counters.entries()) await counter.expectCountingOn(standing[index]);
      const states = (await torpor.json<Workload[]>('ps')).filter(({ state }) => state !== 'ended');
      expect(states.map(({ name, state }) => `${name} ${state}`).sort()).toEqual(
        names.map((name) => `${name} running`),
      );
    }
  });
});

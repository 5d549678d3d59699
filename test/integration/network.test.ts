/** Suspended in one network, resumed in another, in none, and before there is one: with an engine in a network of its own. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
const namespace = `torpor-test-${process.pid}`;
const gateway = '10.77.0.1';
let engine: TestEngine;
let id: string;
let profiles: string;

const ip = (...args: string[]) => run('ip', ['-n', namespace, ...args]);
/** The gateway of a network, as it answers. */
async function enter(hardware: string): Promise<void> {
  await ip('route', 'replace', 'default', 'via', gateway);
  await ip('neigh', 'replace', gateway, 'lladdr', hardware, 'dev', 'out', 'nud', 'permanent');
}
const leave = () => ip('route', 'del', 'default');

async function suspend(): Promise<void> {
  await engine.json<Snapshot>('suspend', id);
}

async function resume(...options: string[]): Promise<Finding[]> {
  const { findings } = await engine.json<Workload & { findings: Finding[] }>('resume', id, ...options);
  return findings.filter(({ tie }) => tie === 'network');
}

/** Begins a resume, and comes back when that waits for a network. */
async function untilItWaits<T>(begin: () => Promise<T>): Promise<{ done: Promise<T> }> {
  const client = await clientOf(engine);
  try {
    const waits = new Promise<void>((resolve) =>
      client.on('progress', ({ phase }) => {
        if (phase === 'network') resolve();
      }),
    );
    const done = begin();
    await Promise.race([waits, done]);
    return { done };
  } finally {
    await client[Symbol.asyncDispose]();
  }
}

describe.runIf(canCheckpoint)('a network', () => {
  beforeAll(async () => {
    profiles = await mkdtemp('/var/tmp/torpor-profiles-');
    await run('ip', ['netns', 'add', namespace]);
    await ip('link', 'set', 'lo', 'up');
    await ip('link', 'add', 'out', 'type', 'veth', 'peer', 'name', 'far');
    await ip('link', 'set', 'far', 'up');
    await ip('link', 'set', 'out', 'up');
    await ip('addr', 'add', '10.77.0.2/24', 'dev', 'out');
    const profile = 'title: Waits\nmatch: [{argument: "987654"}]\nwait-network: 600\n';
    await writeFile(join(profiles, 'waits.yaml'), profile);
    engine = await TestEngine.create({
      prefix: ['nsenter', `--net=/run/netns/${namespace}`],
      env: { TORPOR_PROFILES: profiles },
    });
    ({ id } = await engine.start(['sleep', '1000']));
  });
  afterAll(async () => {
    try {
      await engine?.[Symbol.asyncDispose]();
      await rm(profiles, { recursive: true, force: true });
    } finally {
      await run('ip', ['netns', 'del', namespace]);
    }
  });

  it('that is the same is nothing to be told of', async () => {
    await enter('02:00:00:00:00:01');
    await suspend();
    expect(await resume()).toEqual([]);
  });

  it('that is another one is told, also where all numbers are the same', async () => {
    await enter('02:00:00:00:00:01');
    await suspend();
    await enter('02:00:00:00:00:02');
    expect(await resume()).toMatchObject([
      {
        verdict: 'degraded',
        by: 'engine',
        what: expect.stringContaining('in another network than when'),
        hint: expect.stringContaining('resolver'),
      },
    ]);
  });

  it('that is not there any more is told', async () => {
    await enter('02:00:00:00:00:01');
    await suspend();
    await leave();
    expect(await resume()).toMatchObject([{ what: expect.stringContaining('has no network now') }]);
  });

  it('is waited for where that is wanted, as long as is wanted', async () => {
    await enter('02:00:00:00:00:01');
    await suspend();
    await leave();
    const { done } = await untilItWaits(() => resume('--wait-network', '600'));
    expect((await engine.workload(id)).state).toBe('suspended');
    await enter('02:00:00:00:00:01');
    expect(await done).toEqual([]);
    await suspend();
    await leave();
    expect(await resume('--wait-network', '1')).toMatchObject([
      { what: expect.stringContaining('no network within 1 second') },
      { what: expect.stringContaining('has no network now') },
    ]);
  });

  it('is waited for without a word of the user’s by what its profile says needs one', async () => {
    await enter('02:00:00:00:00:01');
    ({ id } = await engine.start(['sleep', '987654']));
    await suspend();
    await leave();
    expect(await resume('--wait-network', '0')).toMatchObject([
      { what: expect.stringContaining('has no network now') },
    ]);
    await enter('02:00:00:00:00:01');
    await suspend();
    await leave();
    const { done } = await untilItWaits(() => resume());
    expect((await engine.workload(id)).state).toBe('suspended');
    await enter('02:00:00:00:00:01');
    expect(await done).toEqual([]);
  });

  it('that a set waits for keeps no other set waiting', async () => {
    const others: string[] = [];
    for (const _each of [1, 2, 3]) others.push((await engine.start(['sleep', '1000'])).id);
    const [beside = '', ...set] = others;
    try {
      await enter('02:00:00:00:00:01');
      await engine.json('suspend', id, beside);
      await leave();
      const { done } = await untilItWaits(() =>
        engine.json<Workload[]>('resume', id, beside, '--wait-network', '600'),
      );
      await engine.json('suspend', ...set);
      expect((await engine.workload(id)).state).toBe('suspended');
      await enter('02:00:00:00:00:01');
      expect((await done).map(({ state }) => state)).toEqual(['running', 'running']);
    } finally {
      for (const each of others) await engine.run(['end', each]);
    }
  });

  it('is not waited for in other units', async () => {
    const outcome = await engine.run(['resume', id, '--wait-network', '1m']);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain('from 0 to 3600');
  });
});

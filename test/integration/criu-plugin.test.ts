/** CRIU's plugin by itself: it is there only with a plan, and a plan that is no good fails the operation, not the target. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { identify } from '../../engine/process.ts';
import { readSocketsOutside } from '../../engine/sockets/external.ts';
import { encodeDumpPlan, encodeRestorePlan, readOutcomes } from '../../engine/sockets/plan.ts';
import { EchoServer } from '../support/sockets.ts';
import { Counter, canCheckpoint, makeClient } from './criu-fixture.ts';

const source = join(import.meta.dirname, 'criu-plugin', 'connected.c');
let folder = '';
const program = () => join(folder, 'connected');

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'torpor-plugin-'));
  execFileSync('gcc', ['-O1', '-o', program(), source]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A process that counts and is connected to a server outside. */
async function connected() {
  const counter = await Counter.start(1, 0, program());
  const server = await EchoServer.start('stream', `@${join(counter.folder, 'count file')}`);
  while (counter.numbers()[1] !== 1) await sleep(10);
  return {
    counter,
    async [Symbol.asyncDispose]() {
      await counter[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

function planOf(text: string): string {
  const path = join(folder, 'plan');
  rmSync(path, { force: true });
  writeFileSync(path, text);
  return path;
}

describe.runIf(canCheckpoint)('the plugin of CRIU', () => {
  it('is not loaded without a plan, from wherever', async () => {
    await using scene = await connected();
    let environment = '';
    const dump = scene.counter.dump(makeClient({ env: { ...process.env, CRIU_LIBS_DIR: folder } }), {
      onStarted: (pid) => {
        environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
      },
    });
    await expect(dump).rejects.toMatchObject({ isMomentary: true });
    expect(environment.split('\0')).toContain('CRIU_LIBS_DIR=/proc/self/task');
    expect(await scene.counter.counts()).toBe(true);
  });

  it.each<[string, () => string]>([
    ['blocks the socket', () => planOf(encodeDumpPlan('block'))],
    ['is not there', () => join(folder, 'none')],
    ['is empty', () => planOf('')],
    ['is cut off', () => planOf(encodeDumpPlan('hang-up').slice(0, -8))],
    ['says what there is not', () => planOf(encodeDumpPlan('hang-up').replace('hang-up', 'perhaps'))],
    ['has a name that is too long', () => planOf(`---- 1 hang-up 1 0 0 - ${'61'.repeat(109)} 0 - 0\n`)],
    ['has a packet of nobody', () => planOf('packet 00\n')],
    [
      'is a link',
      () => {
        const path = join(folder, 'link');
        rmSync(path, { force: true });
        symlinkSync(planOf(encodeDumpPlan('hang-up')), path);
        return path;
      },
    ],
  ])('refuses a dump where the plan %s', async (_name, plan) => {
    await using scene = await connected();
    await expect(scene.counter.dump(makeClient(), {}, { socketPlan: plan() })).rejects.toThrow();
    expect(await scene.counter.counts()).toBe(true);
    expect(scene.counter.numbers()[2]).toBe(0);
  });

  it('refuses a restore without a plan for a socket, and makes it with one', async () => {
    await using scene = await connected();
    const { counter } = scene;
    await counter.dump(makeClient(), {}, { socketPlan: planOf(encodeDumpPlan('hang-up')) });
    const count = counter.count();
    const { external } = await readSocketsOutside(counter.imagesDir);
    const [socket] = external;
    if (socket === undefined) throw new Error('the socket is not in the images');
    expect(socket).toMatchObject({ type: 'stream', owner: { user: { uid: 0 } } });
    expect(socket.address.toString().slice(1)).toBe(join(counter.folder, 'count file'));

    const client = makeClient().withPrefix(counter.spawnPrefix);
    const restore = (socketPlan: string) =>
      client.restore({
        imagesDir: counter.imagesDir,
        logFile: 'restore.log',
        root: counter.rootFolder,
        socketPlan,
      });
    const user = { uid: 0, gid: 0, groups: [] };
    const planned = { type: 'stream', user, own: undefined, action: 'hang-up', unread: [] } as const;
    await expect(restore(planOf(encodeRestorePlan([{ ...planned, inode: 1 }])))).rejects.toThrow();
    await expect(restore(join(folder, 'none'))).rejects.toThrow();
    expect(counter.count()).toBe(count);

    const plan = planOf(encodeRestorePlan([{ ...planned, inode: socket.inode }]));
    const { pid } = await restore(plan);
    counter.root = (await identify(pid)) ?? counter.root;
    expect(readOutcomes(readFileSync(plan, 'utf8')).get(socket.inode)).toEqual({ kind: 'done' });
    expect(await counter.counts()).toBe(true);
    expect(counter.numbers()[2]).toBe(1);
  });
});

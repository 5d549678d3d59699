/** Naps of real processes, on real swap: what stands still goes on as if nothing had been, whoever dies meanwhile. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { NapPlan, NapResult, Workload } from '../../api/types.ts';
import { Holder } from '../../engine/nap/hold.ts';
import { Counter, removeSnapshots } from '../fault/scene.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';
import { fileSwap, noZram, type TestSwap, zramSwap } from '../support/swap.ts';
import { makeUser } from '../support/users.ts';

const mebibyte = 1024 ** 2;
const unified = existsSync('/sys/fs/cgroup/cgroup.controllers') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified';

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-nap-');
  chmodSync(folder, 0o755);
});
afterEach(() => removeSnapshots(engine));
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** A parent and a child that both count into files, with as much memory each as given, of which hardly anything compresses. */
const program = `
import os, sys, time
path, amount = sys.argv[1], int(sys.argv[2])
child = os.fork()
if child == 0:
    path += '-child'
held = os.urandom(amount << 20)
i = 0
while True:
    i += 1
    with open(path, 'a') as f:
        f.write('%d\\n' % i)
    time.sleep(0.02)
`;

class Tree implements AsyncDisposable {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #file: string;

  private constructor(child: ChildProcess, file: string) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.#file = file;
  }

  static async start(mebibytes = 1, options: { uid?: number; cgroup?: string } = {}): Promise<Tree> {
    const file = join(await mkdtemp(join(folder, 'tree-')), 'count');
    if (options.uid !== undefined) chownSync(dirname(file), options.uid, options.uid);
    const enter = options.cgroup === undefined ? '' : `echo $$ >${options.cgroup}/cgroup.procs; `;
    const as = options.uid === undefined ? '' : `setpriv --reuid ${options.uid} --clear-groups -- `;
    const script = `${enter}exec ${as}/usr/bin/python3 -c "$1" "$2" "$3"`;
    const child = spawn('sh', ['-c', script, 'sh', program, file, String(mebibytes)], {
      stdio: 'ignore',
      detached: true,
    });
    const tree = new Tree(child, file);
    await tree.expectCounting();
    return tree;
  }

  get pids(): number[] {
    return [this.pid, ...childrenOf(this.pid)];
  }

  async lines(): Promise<number> {
    const all = [this.#file, `${this.#file}-child`].map((path) => readFile(path, 'utf8').catch(() => ''));
    const counts = (await Promise.all(all)).map((text) => text.split('\n').length - 1);
    return Math.min(...counts);
  }

  async expectCounting(): Promise<void> {
    const before = await this.lines();
    await vi.waitFor(async () => expect(await this.lines()).toBeGreaterThan(before + 2), {
      timeout: 15_000,
      interval: 20,
    });
  }

  async expectStill(): Promise<void> {
    const before = await this.lines();
    await sleep(300);
    expect(await this.lines()).toBe(before);
  }

  /** It never skipped or repeated a number. */
  async expectNoGap(): Promise<void> {
    for (const path of [this.#file, `${this.#file}-child`]) {
      const numbers = (await readFile(path, 'utf8')).split('\n').filter(Boolean).map(Number);
      expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pids = this.pids;
    const ended = this.#child.exitCode === null ? once(this.#child, 'exit') : undefined;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await ended;
  }
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
const cgroupOf = (pid: number) => /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? '';
const pssOf = (pid: number) =>
  Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]) * 1024;
/** Cgroups that naps have made and that are there still. */
const leftBehind = () =>
  readdirSync(unified, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.includes(`torpor-${engine.paths.tag}-nap-`),
  );

describe('a nap', () => {
  it('of a capsule holds all of it still, and it goes on without a gap', async () => {
    await using counter = await Counter.start(engine, '--name', 'counter');
    const result = await engine.json<NapResult>('nap', 'counter');
    expect(result).toMatchObject({ workload: { id: counter.id, state: 'napping' } });
    expect((await engine.workload(counter.id)).state).toBe('napping');
    const before = await counter.count();
    await sleep(300);
    expect(await counter.count()).toBe(before);
    // The next engine finds it so.
    await engine.kill();
    expect((await engine.workload(counter.id)).state).toBe('napping');
    expect(await counter.count()).toBe(before);
    expect((await engine.failure(1, 'nap', 'counter')).message).toMatch(/naps already/);
    const woken = await engine.json<{ workload: Workload }>('wake', 'counter');
    expect(woken.workload.state).toBe('running');
    await counter.expectCounting();
    expect((await engine.failure(1, 'wake', 'counter')).message).toMatch(/does not nap/);
  });

  it('of any program is a job while it lasts, and leaves nothing', async () => {
    await using tree = await Tree.start();
    await using neighbour = await Tree.start();
    const before = tree.pids.map(cgroupOf);
    const { workload } = await engine.json<NapResult>('nap', String(tree.pid));
    expect(workload).toMatchObject({ kind: 'job', state: 'napping', pids: tree.pids });
    await tree.expectStill();
    // Beside it in the same cgroup.
    await neighbour.expectCounting();
    expect((await engine.json<Workload[]>('ps')).map(({ id, state }) => [id, state])).toContainEqual([
      workload.id,
      'napping',
    ]);
    await engine.json('wake', String(tree.pid));
    await tree.expectCounting();
    await tree.expectNoGap();
    expect(tree.pids.map(cgroupOf)).toEqual(before);
    expect(leftBehind()).toEqual([]);
    expect((await engine.json<Workload[]>('ps')).map(({ id }) => id)).not.toContain(workload.id);
  });

  it('of what a desktop has put into a unit of its own takes that unit', async () => {
    const scope = join(unified, 'app-test-4711.scope');
    mkdirSync(scope);
    try {
      await using tree = await Tree.start(1, { cgroup: scope });
      // Not below it, and of the same application all the same.
      await using other = await Tree.start(1, { cgroup: scope });
      const { workload } = await engine.json<NapResult>('nap', String(tree.pid));
      await tree.expectStill();
      await other.expectStill();
      expect(readFileSync(join(scope, 'cgroup.freeze'), 'utf8')).toBe('1\n');
      expect(tree.pids.map(cgroupOf)).toEqual(tree.pids.map(() => '/app-test-4711.scope'));
      await engine.json('wake', workload.id);
      await tree.expectCounting();
      await other.expectCounting();
    } finally {
      await vi.waitFor(() => rmdirSync(scope), { timeout: 10_000 });
    }
  });

  it('ends with what it is of', async () => {
    const tree = await Tree.start();
    const { workload } = await engine.json<NapResult>('nap', String(tree.pid));
    await tree[Symbol.asyncDispose]();
    await vi.waitFor(
      async () =>
        expect((await engine.json<Workload[]>('ps')).find(({ id }) => id === workload.id)?.state).not.toBe(
          'napping',
        ),
      { timeout: 15_000 },
    );
    await vi.waitFor(() => expect(leftBehind()).toEqual([]), { timeout: 15_000 });
  });

  it('is over before anything else is done with it', async () => {
    await using counter = await Counter.start(engine, '--name', 'counter');
    await engine.json('nap', 'counter');
    expect((await engine.failure(1, 'windows', 'counter')).message).toMatch(/naps/);
    expect((await engine.failure(1, 'screenshot', 'counter', join(folder, 'it.png'))).message).toMatch(
      /naps/,
    );
    const outcome = await engine.run(['exec', 'counter', '--', 'echo', 'there']);
    expect(outcome).toMatchObject({ code: 0, stdout: 'there\n' });
    await counter.expectCounting();
    await engine.json('nap', 'counter');
    // All that would be lost with the machine, standing still or not.
    await engine.json('suspend', '--all');
    expect((await engine.workload(counter.id)).state).toBe('suspended');
    await engine.json('resume', 'counter');
    await counter.expectCounting();
    await engine.json('nap', 'counter');
    await engine.json('end', 'counter');
    expect((await engine.workload(counter.id)).state).toBe('ended');
  });

  it('is taken over by the next engine, whenever the one before is killed', {
    timeout: 240_000,
  }, async () => {
    await using tree = await Tree.start(150);
    for (let time = 0; time < 12; time++) {
      const asking = engine.run(['nap', String(tree.pid), '--json']);
      await sleep(time * 60);
      await engine.kill();
      await asking;
      const listed = (await engine.json<Workload[]>('ps')).filter(({ state }) => state !== 'ended');
      if (listed.some(({ state }) => state === 'napping')) {
        await tree.expectStill();
        await engine.json('wake', String(tree.pid));
      }
      await tree.expectCounting();
      for (const { id, state } of await engine.json<Workload[]>('ps'))
        if (state !== 'ended') await engine.json('forget', id);
      expect(leftBehind()).toEqual([]);
    }
    await tree.expectNoGap();
  });
});

describe('what hurts others is not put to a nap', () => {
  it.each([
    ['the machine’s init', () => '1', 3, /init/],
    ['no process', () => '4194304', 4, /no process/],
  ])('%s', async (_, target, code, message) => {
    expect((await engine.failure(code, 'nap', target())).message).toMatch(message);
  });

  it('an X server, and a bus', async () => {
    await using counter = await Counter.start(engine);
    const { pids } = await engine.workload(counter.id);
    const named = (name: string) =>
      pids.find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith(name)) ?? 0;
    for (const [name, said] of [
      ['X', /is the X server/],
      ['dbus-daemon', /is the session bus/],
    ] as const) {
      const { message } = await engine.failure(3, 'nap', String(named(name)));
      expect(message).toMatch(said);
    }
    await counter.expectCounting();
  });

  it('another user’s', async () => {
    await using user = await makeUser('torpor-nap-1', 21522);
    await using tree = await Tree.start();
    const outcome = await engine.run(['nap', '--json', String(tree.pid)], { uid: user.uid });
    expect(outcome.code).toBe(5);
    await tree.expectCounting();
    await engine.json('nap', String(tree.pid));
    expect((await engine.run(['wake', '--json', String(tree.pid)], { uid: user.uid })).code).toBe(5);
    await tree.expectStill();
    await engine.json('wake', String(tree.pid));
  });

  it('what a unit of the desktop has of another user', async () => {
    await using user = await makeUser('torpor-nap-2', 21523);
    const scope = join(unified, 'app-test-4712.scope');
    mkdirSync(scope);
    try {
      await using others = await Tree.start(1, { cgroup: scope });
      await using tree = await Tree.start(1, { cgroup: scope, uid: user.uid });
      const outcome = await engine.run(['nap', '--json', String(tree.pid)], { uid: user.uid });
      expect(outcome.code, outcome.stdout).toBe(5);
      for (const each of [others, tree]) await each.expectCounting();
    } finally {
      await vi.waitFor(() => rmdirSync(scope), { timeout: 10_000 });
    }
  });

  it('who asks for it', async () => {
    const { message } = await engine.failure(3, 'nap', String(process.pid));
    expect(message).toMatch(/Who asks for it runs in it/);
  });

  it('who holds a lock that another one waits for', async () => {
    const file = join(folder, 'locked');
    writeFileSync(file, '');
    const holder = spawn('flock', [file, 'sleep', '1000'], { stdio: 'ignore' });
    await sleep(500);
    const waiter = spawn('flock', [file, 'true'], { stdio: 'ignore' });
    try {
      await vi.waitFor(async () =>
        expect((await engine.failure(3, 'nap', String(holder.pid))).message).toMatch(/has locked a file/),
      );
      waiter.kill();
      await once(waiter, 'exit');
      expect(
        (await engine.json<NapPlan>('nap', String(holder.pid), '--dry-run')).findings.filter(
          ({ verdict }) => verdict === 'blocking',
        ),
      ).toEqual([]);
    } finally {
      for (const pid of childrenOf(holder.pid ?? 0)) process.kill(pid, 'SIGKILL');
      holder.kill('SIGKILL');
      waiter.kill('SIGKILL');
    }
  });
});

describe.skipIf(noZram !== undefined)(`memory${noZram === undefined ? '' : ` (${noZram})`}`, () => {
  let swap: TestSwap | undefined;
  afterEach(async () => {
    await swap?.[Symbol.asyncDispose]();
    swap = undefined;
  });

  it('goes to swap, and comes back', async () => {
    await using tree = await Tree.start(100);
    swap = await fileSwap(join(folder, 'swap'), 1024);
    const plan = await engine.json<NapPlan>('nap', '--dry-run', String(tree.pid));
    expect(plan.gainBytes).toBeGreaterThan(200 * mebibyte);
    expect(plan).toMatchObject({ staysBytes: 0, swapTotalBytes: expect.any(Number), findings: [] });
    const result = await engine.json<NapResult>('nap', String(tree.pid));
    expect(result.memoryBefore).toBeGreaterThan(200 * mebibyte);
    // What was said before is what it was.
    expect(result.memoryBefore - result.memoryAfter).toBeGreaterThan(plan.gainBytes * 0.9);
    expect(result.memoryAfter).toBeLessThan(result.memoryBefore * 0.1);
    expect(result.availableAfter - result.availableBefore).toBeGreaterThan(150 * mebibyte);
    await engine.json('wake', String(tree.pid));
    await tree.expectCounting();
    await tree.expectNoGap();
  });

  it('is smaller in zram, and that is reckoned with', async () => {
    await using tree = await Tree.start(100);
    swap = await zramSwap(1024);
    const plan = await engine.json<NapPlan>('nap', '--dry-run', String(tree.pid));
    expect(plan.zramRatio).toBeGreaterThanOrEqual(1);
    expect(plan.gainBytes).toBeLessThan(plan.swapBytes + plan.fileBytes);
    await engine.json('nap', String(tree.pid));
    // What is random does not get smaller there.
    const after = await engine.json<NapPlan>('nap', '--dry-run', String(process.pid)).catch(() => undefined);
    expect(after?.zramRatio ?? 1).toBeLessThan(1.3);
    await engine.json('wake', String(tree.pid));
    await tree.expectNoGap();
  });

  it('stays where swap is nearly full', async () => {
    await using tree = await Tree.start(100);
    swap = await fileSwap(join(folder, 'swap'), 64);
    const plan = await engine.json<NapPlan>('nap', '--dry-run', String(tree.pid));
    expect(plan.staysBytes).toBeGreaterThan(100 * mebibyte);
    const result = await engine.json<NapResult>('nap', String(tree.pid));
    expect(result.stopped).toBe('swap');
    const free = Number(/^SwapFree:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
    // A piece may have been on its way as the limit was reached.
    expect(free).toBeGreaterThan(0);
    expect(result.memoryAfter).toBeGreaterThan(100 * mebibyte);
    await engine.json('wake', String(tree.pid));
    await tree.expectCounting();
  });

  it('of what is in memory alone stays where there is no swap, and suspend is offered', async () => {
    await using tree = await Tree.start(50);
    const plan = await engine.json<NapPlan>('nap', '--dry-run', String(tree.pid));
    expect(plan.swapTotalBytes).toBe(0);
    expect(plan.gainBytes).toBeLessThan(30 * mebibyte);
    expect(plan.findings).toMatchObject([
      { tie: 'swap', verdict: 'degraded', hint: expect.stringContaining('torpor suspend') },
    ]);
    await engine.json('nap', String(tree.pid));
    expect(pssOf(tree.pid)).toBeGreaterThan(20 * mebibyte);
    await engine.json('wake', String(tree.pid));
  });
});

describe('where there is no cgroup file system of version 2', () => {
  const v1 = {
    path: '/sys/fs/cgroup/freezer',
    type: 'cgroup',
    source: 'cgroup',
    options: [],
    superOptions: 'rw,freezer',
  };

  it.each([
    ['by SIGSTOP', []],
    ...(existsSync(v1.path) ? [['by version 1', [v1]] as [string, (typeof v1)[]]] : []),
  ] as [string, (typeof v1)[]][])('it is held %s', async (_, mounts) => {
    await using tree = await Tree.start();
    const holder = new Holder(mounts, 'test');
    const list = async () => tree.pids;
    const hold = await holder.partOf('it', tree.pids);
    await holder.hold(hold, list);
    await tree.expectStill();
    expect(await holder.isHeld(hold)).toBe(true);
    await holder.release(hold);
    await tree.expectCounting();
    expect(await holder.leftBehind()).toEqual([]);
    await tree.expectNoGap();
  });

  it('what was stopped before stays so', async () => {
    await using tree = await Tree.start();
    process.kill(tree.pid, 'SIGSTOP');
    const holder = new Holder([], 'test');
    const hold = await holder.partOf('it', tree.pids);
    await holder.hold(hold, async () => tree.pids);
    await holder.release(hold);
    await vi.waitFor(() => expect(readFileSync(`/proc/${tree.pid}/stat`, 'utf8')).toMatch(/\) T /));
    process.kill(tree.pid, 'SIGCONT');
    await tree.expectCounting();
  });
});

describe('of which somebody has asked to be woken as they leave', () => {
  const isNapping = async () =>
    (await engine.json<Workload[]>('ps')).some(({ state }) => state === 'napping');

  it('is woken by the end of their connection', async () => {
    await using tree = await Tree.start();
    await engine.json('ps');
    const client = await clientOf(engine);
    await client.nap(String(tree.pid), { whileConnected: true });
    await tree.expectStill();
    await client[Symbol.asyncDispose]();
    await tree.expectCounting();
    await tree.expectNoGap();
    await vi.waitFor(async () => expect(await isNapping()).toBe(false));
  });

  it('is woken when they leave while it falls asleep', async () => {
    await using tree = await Tree.start(64);
    const client = await clientOf(engine);
    client.nap(String(tree.pid), { whileConnected: true }).catch(() => {});
    await vi.waitFor(async () => expect(await isNapping()).toBe(true), { interval: 1 });
    await client[Symbol.asyncDispose]();
    await tree.expectCounting();
    await vi.waitFor(async () => expect(await isNapping()).toBe(false));
  });

  it('is woken by the next engine, which does not know them', async () => {
    await using tree = await Tree.start();
    const client = await clientOf(engine);
    await client.nap(String(tree.pid), { whileConnected: true });
    await engine.kill();
    await client[Symbol.asyncDispose]();
    expect(await isNapping()).toBe(false);
    await tree.expectCounting();
  });
});

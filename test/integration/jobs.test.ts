/** Jobs that Torpor did not start: suspended out of the terminal they were started in, resumed in one of their own. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Inspection, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { kernelThread, takePid } from '../support/pids.ts';
import { childrenOf, TestTerminal } from '../support/terminal.ts';

const run = promisify(execFile);
const torpor = new URL('../../bin/torpor', import.meta.url).pathname;
const leave = '\x1d';
/** games, which every Debian has. */
const otherUser = 5;
const interrupt = '\x03';

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-jobs-');
  await run('chmod', ['777', folder]);
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

// Without a trap bash goes on after an interrupt that comes in the very moment in which its `sleep` ends.
const counting = (out: string) => `trap 'trap - INT; kill -INT $$' INT
i=0
while :; do i=$((i+1)); echo "n $i"; echo $i >>'${out}'; sleep 0.1; done
`;

/** A script that counts, on its terminal and in a file. */
class CountingScript {
  readonly path: string;
  readonly out: string;

  constructor(name: string) {
    this.path = join(folder, name);
    this.out = join(folder, `${name}.out`);
  }

  async write(): Promise<this> {
    await writeFile(this.path, counting(this.out));
    return this;
  }

  async numbers(): Promise<number[]> {
    const text = await readFile(this.out, 'utf8').catch(() => '');
    return text.split('\n').filter(Boolean).map(Number);
  }

  /** Waits until it has counted on by a few. @returns to where. */
  async goesOn(): Promise<number> {
    const { length } = await this.numbers();
    await vi.waitFor(async () => expect((await this.numbers()).length).toBeGreaterThan(length + 3), {
      timeout: 30_000,
      interval: 50,
    });
    return (await this.numbers()).length;
  }

  async expectNoGap(): Promise<void> {
    const numbers = await this.numbers();
    expect(numbers).toEqual(numbers.map((_number, index) => index + 1));
  }

  async expectStill(): Promise<void> {
    const before = await this.numbers();
    await sleep(500);
    expect(await this.numbers()).toEqual(before);
  }
}

/** Starts a command in an interactive shell, as a user does. @returns the terminal and the command's pid. */
async function inShell(command: string, options: { uid?: number } = {}): Promise<[TestTerminal, number]> {
  const terminal = await TestTerminal.start(['bash', '--norc', '-i'], options);
  await terminal.until(/[$#] $/);
  terminal.type(`${command}\n`);
  const job = await vi.waitFor(
    async () => {
      const [child] = await childrenOf(terminal.pid);
      if (child === undefined) throw new Error('it has not started');
      return child;
    },
    { timeout: 10_000, interval: 20 },
  );
  return [terminal, job];
}

const attach = (id: string, options = {}) =>
  TestTerminal.start([torpor, 'attach', id], { env: engine.env, ...options });
const suspend = (target: string | number) => engine.json<Snapshot>('suspend', String(target));
const resume = (target: string) => engine.json<Workload>('resume', target);

/** Waits until the engine knows that it has ended, and how. */
const ends = (id: string, how: Partial<Workload>) =>
  vi.waitFor(async () => expect(await engine.workload(id)).toMatchObject({ state: 'ended', ...how }), {
    timeout: 30_000,
    interval: 200,
  });

describe('a script in a terminal', () => {
  it('goes on counting in another terminal, without a gap, and can be left and attached again', async () => {
    const script = await new CountingScript('count.sh').write();
    const [first, job] = await inShell(`bash ${script.path}`);
    await script.goesOn();
    const inspection = await engine.json<Inspection>('inspect', String(job));
    expect(inspection.findings.filter(({ verdict }) => verdict === 'blocking')).toEqual([]);
    expect(inspection.findings).toContainEqual(
      expect.objectContaining({ tie: 'terminal', verdict: 'handled', by: 'engine' }),
    );

    const snapshot = await suspend(job);
    expect(snapshot).toMatchObject({ name: 'count.sh', command: ['bash', script.path], user: 'root' });
    const id = snapshot.workload;
    expect(await engine.workload(id)).toMatchObject({ kind: 'job', state: 'suspended', pids: [] });
    await first.until('Killed');
    await first.close();
    await script.expectStill();

    const resumed = await resume(id);
    expect(resumed).toMatchObject({ id, kind: 'job', state: 'running' });
    expect(resumed.memoryBytes).toBeGreaterThan(0);
    await script.goesOn();
    await script.expectNoGap();

    await using second = await attach(id);
    const reached = (await script.numbers()).length;
    await second.until(new RegExp(`n ${reached + 5}\\b`));
    second.type(leave);
    await second.until('runs on');
    expect(await second.ended()).toBe(0);

    await using third = await attach('count.sh');
    // What was shown while nobody looked is there.
    await third.until(new RegExp(`n ${reached + 6}\\b`));
    third.type(interrupt);
    expect(await third.ended()).toBe(128 + 2);
    await script.expectNoGap();
    await ends(id, { exit: { signal: 2 } });
  });

  it('has pids of its own where its own are taken, and is suspended and resumed from there too', async () => {
    const script = await new CountingScript('taken.sh').write();
    const [terminal, job] = await inShell(`bash ${script.path}`);
    await script.goesOn();
    const { workload: id } = await suspend(job);
    await terminal.close();
    await using _taken = await takePid(job);
    for (let round = 0; round < 2; round++) {
      const { pids } = await resume(id);
      expect(pids).not.toContain(job);
      await script.goesOn();
      await using viewer = await attach(id);
      await viewer.until(/n \d+\r\n/);
      // It still counts itself as it did.
      const inside = await readFile(`/proc/${pids[0]}/status`, 'utf8');
      expect(inside).toMatch(new RegExp(`^NSpid:\\s.*\\b${job}$`, 'm'));
      await suspend(id);
      await viewer.until('was suspended');
      await script.expectStill();
    }
    await script.expectNoGap();
  });

  it('runs on in its terminal after a snapshot that leaves it running', async () => {
    const script = await new CountingScript('left.sh').write();
    const [terminal, job] = await inShell(`bash ${script.path}`);
    await script.goesOn();
    const snapshot = await engine.json<Snapshot>('suspend', '--leave-running', String(job));
    const place = terminal.shown.length;
    await terminal.until(/n \d+\r\n/, place);
    expect(await engine.workload(snapshot.workload)).toMatchObject({ state: 'running', kind: 'job' });
    expect(await readFile(`/proc/${job}/cgroup`, 'utf8')).not.toContain('torpor');
    terminal.type(interrupt);
    await ends(snapshot.workload, { state: 'ended' });
    await terminal.close();
    await script.expectNoGap();
  });

  it('tells with what it ended', async () => {
    const path = join(folder, 'seven.sh');
    await writeFile(path, 'read line; echo "got $line"; exit 7\n');
    const [terminal, job] = await inShell(`bash ${path}`);
    const { workload: id } = await suspend(job);
    await terminal.close();
    await resume(id);
    await using viewer = await attach(id);
    viewer.type('hello\r');
    await viewer.until('got hello');
    expect(await viewer.ended()).toBe(7);
    await ends(id, { exit: { code: 7 } });
  });
});

describe('what runs in a terminal', () => {
  it('is redrawn, in the size of whoever looks', async () => {
    const [terminal, job] = await inShell('htop -d 5');
    await terminal.until('Load average');
    const { workload: id } = await suspend(job);
    await terminal.close();
    await resume(id);
    await using viewer = await attach(id, { columns: 100, rows: 40 });
    await viewer.until('Load average');
    await viewer.until('F10');
    viewer.type(leave);
    expect(await viewer.ended()).toBe(0);
    await using small = await attach(id, { columns: 60, rows: 15 });
    await small.until('Load average');
    small.type('q');
    expect(await small.ended()).toBe(0);
  });

  it('may be three processes that pass things on', async () => {
    const out = join(folder, 'sum');
    const go = join(folder, 'go');
    const path = join(folder, 'pipeline.sh');
    await writeFile(
      path,
      `(for i in $(seq 1 60); do echo $i; while [ ! -e '${go}' ] && [ $i -gt 20 ]; do echo waiting >&2; sleep 0.1; done; done) | while read n; do echo $((n * 2)); done | awk '{s+=$1} END {print s}' >'${out}'
echo finished
`,
    );
    const [terminal, job] = await inShell(`bash ${path}`);
    await sleep(1500);
    const { workload: id } = await suspend(job);
    await terminal.close();
    await resume(id);
    await using viewer = await attach(id);
    await viewer.until('waiting');
    await writeFile(go, '');
    await viewer.until('finished');
    expect(await viewer.ended()).toBe(0);
    expect((await readFile(out, 'utf8')).trim()).toBe('3660');
  });

  it('may be a whole shell with jobs in the background, which it controls as before', async () => {
    const script = await new CountingScript('background.sh').write();
    await using terminal = await TestTerminal.start(['bash', '--norc', '-i']);
    await terminal.until(/[$#] $/);
    terminal.type(`bash ${script.path} >/dev/null & sleep 1000 & export KEPT=yes\n`);
    await script.goesOn();
    const { workload: id } = await suspend(terminal.pid);
    await terminal.ended();
    await script.expectStill();
    await resume(id);
    await script.goesOn();
    await using viewer = await attach(id);
    viewer.type('jobs; echo $KEPT-$((40+2))\r');
    await viewer.until('yes-42');
    expect(viewer.shown).toMatch(/Running.*background\.sh/);
    const place = viewer.shown.length;
    viewer.type('fg %2\r');
    await viewer.until('sleep 1000', place);
    // The interrupt drops what is typed before the shell reads again.
    const asked = viewer.shown.length;
    viewer.type(interrupt);
    await viewer.until(/[$#] $/, asked);
    viewer.type('kill %1; wait; exit 3\r');
    expect(await viewer.ended()).toBe(3);
    await script.expectNoGap();
  });

  it('may be a shell that is suspended again out of another terminal', async () => {
    const script = await new CountingScript('twice.sh').write();
    const before = await TestTerminal.start(['bash', '--norc', '-i']);
    await before.until(/[$#] $/);
    before.type(`bash ${script.path} >/dev/null &\n`);
    await script.goesOn();
    const { workload: id } = await suspend(before.pid);
    await before.ended();
    // Whoever comes now gets the number that its terminal had.
    await using other = await TestTerminal.start(['sleep', '1000']);
    expect(other.pid).toBeGreaterThan(0);
    for (let round = 0; round < 2; round++) {
      await resume(id);
      await script.goesOn();
      await suspend(id);
      await script.expectStill();
    }
    await resume(id);
    await using viewer = await attach(id);
    viewer.type('kill %1; wait; exit 4\r');
    expect(await viewer.ended()).toBe(4);
    await script.expectNoGap();
  });

  it('may be a shell whose children write on the terminal by its name', async () => {
    const go = join(folder, 'go-on');
    await using terminal = await TestTerminal.start(['bash', '--norc', '-i']);
    await terminal.until(/[$#] $/);
    terminal.type(`(until [ -e '${go}' ]; do sleep 0.1; done; echo "written to the tty" >/dev/tty) &\n`);
    await terminal.until(/\[1\] \d+/);
    const { workload: id } = await suspend(terminal.pid);
    await terminal.ended();
    await resume(id);
    await using viewer = await attach(id);
    await writeFile(go, '');
    await viewer.until(/written to the tty/);
    viewer.type('exit\r');
    expect(await viewer.ended()).toBe(0);
  });
});

describe('a job of another user', () => {
  it('is suspended and resumed by root, as that user', async () => {
    const script = await new CountingScript('theirs.sh').write();
    const [terminal, job] = await inShell(`bash ${script.path}`, { uid: otherUser });
    await script.goesOn();
    const snapshot = await suspend(job);
    expect(snapshot).toMatchObject({ user: 'games' });
    await terminal.close();
    const { pids, user } = await resume(snapshot.workload);
    expect(user).toBe('games');
    expect(await readFile(`/proc/${pids[0]}/status`, 'utf8')).toMatch(
      new RegExp(`^Uid:\\s${otherUser}\\s`, 'm'),
    );
    await script.goesOn();
    await script.expectNoGap();
    await using viewer = await attach(snapshot.workload, { uid: otherUser });
    await viewer.until(/n \d+\r\n/);
    viewer.type(interrupt);
    expect(await viewer.ended()).toBe(128 + 2);
  });

  it('is not to be had by one who is not root', async () => {
    const script = await new CountingScript('roots.sh').write();
    const [terminal, job] = await inShell(`bash ${script.path}`);
    await script.goesOn();
    for (const command of ['inspect', 'suspend']) {
      const outcome = await engine.run([command, '--json', String(job)], { uid: otherUser });
      expect(outcome.code).toBe(5);
      expect(outcome.stdout).toContain('belongs to another user');
    }
    await script.goesOn();
    await terminal.close();
  });
});

describe('what is no job', () => {
  const expectRefused = async (pidOf: () => Promise<number> | number, words: RegExp) => {
    await engine.json('ps');
    const error = await engine.failure(3, 'suspend', String(await pidOf()));
    expect(error.message).toMatch(words);
    expect(error.message).toContain('Nothing was touched');
  };

  // In a container none of its threads is to be seen.
  it.runIf(kernelThread !== undefined)('a part of the kernel is refused', () =>
    expectRefused(() => kernelThread ?? 0, /part of the kernel/),
  );

  it.each<[string, () => Promise<number> | number, RegExp]>([
    ['the engine', async () => (await engine.pid()) ?? 0, /engine itself/],
    ['what the engine runs in', () => 1, /init/],
  ])('%s is refused', (_what, pidOf, words) => expectRefused(pidOf, words));

  it('a process of a capsule is suspended with that only', async () => {
    const capsule = await engine.start(['sleep', '1000'], '--name', 'in-a-capsule');
    const { stdout } = await run('pgrep', ['-f', '-x', 'sleep 1000', '-P', String(capsule.pids[0])]);
    const error = await engine.failure(3, 'suspend', stdout.trim());
    expect(error.message).toMatch(/belongs to the workload in-a-capsule\. Nothing was touched/);
    expect(await engine.workload(capsule.id)).toMatchObject({ state: 'running' });
    await engine.json('end', capsule.id);
  });

  it('one part of a pipeline is refused, and the shell that started all is named', async () => {
    const [terminal, job] = await inShell('sleep 1000 | cat');
    const error = await engine.failure(3, 'suspend', String(job));
    expect(error.hint).toContain(`torpor suspend ${terminal.pid}`);
    const { workload: id } = await suspend(terminal.pid);
    await terminal.ended();
    await resume(id);
    await engine.json('end', id);
  });

  it('a process that has ended is not there', async () => {
    const child = spawn('true');
    await once(child, 'close');
    expect(await engine.failure(4, 'suspend', String(child.pid))).toMatchObject({ code: 'not-found' });
  });
});

it('is there when the engine is killed, with its terminal', async () => {
  const script = await new CountingScript('outlives.sh').write();
  const [terminal, job] = await inShell(`bash ${script.path}`);
  await script.goesOn();
  const { workload: id } = await suspend(job);
  await terminal.close();
  await resume(id);
  await using viewer = await attach(id);
  await viewer.until(/n \d+\r\n/);
  await engine.kill();
  const place = viewer.shown.length;
  await viewer.until(/n \d+\r\n/, place);
  expect(await engine.workload(id)).toMatchObject({ state: 'running', kind: 'job' });
  await suspend(id);
  await viewer.until('was suspended');
  await resume(id);
  await script.goesOn();
  await script.expectNoGap();
  await engine.json('end', id);
});

it('goes on after a reboot, of which the state folder alone is left', async () => {
  await using before = await TestEngine.create();
  const script = await new CountingScript('rebooted.sh').write();
  const [terminal, job] = await inShell(`bash ${script.path}`);
  await script.goesOn();
  const { workload: id } = await before.json<Snapshot>('suspend', String(job));
  await terminal.close();
  await before.kill('SIGTERM');
  await rm(before.paths.runDir, { recursive: true, force: true });
  await expect(readFile(before.paths.addressFile)).rejects.toThrow('ENOENT');
  await before.json('resume', id);
  await script.goesOn();
  await using viewer = await TestTerminal.start([torpor, 'attach', id], { env: before.env });
  await viewer.until(/n \d+\r\n/);
  viewer.type(interrupt);
  await viewer.ended();
  await script.expectNoGap();
});

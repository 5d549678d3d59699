/** Jobs of all kinds, as they are met in terminals: stopped ones, ones that ask for passwords, full-screen programs. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Inspection, Snapshot, Workload } from '../../api/types.ts';
import { emulate } from '../support/emulator.ts';
import { TestEngine } from '../support/engine.ts';
import { type TypedJob, typeInShell } from '../support/job.ts';
import { type TerminalOptions, TestTerminal } from '../support/terminal.ts';

const run = promisify(execFile);
const torpor = new URL('../../bin/torpor', import.meta.url).pathname;
const stop = '\x1a';
const interrupt = '\x03';
const leave = '\x1d';

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-programs-');
  await run('chmod', ['777', folder]);
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const { id, state } of await engine.json<Workload[]>('ps'))
    if (state === 'running') await engine.run(['end', id]);
});

async function script(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

async function attach(id: string, options: TerminalOptions = {}): Promise<TestTerminal> {
  const viewer = await TestTerminal.start([torpor, 'attach', id], { ...options, env: engine.env });
  // The screen is drawn.
  await viewer.until('\x1b[2J');
  return viewer;
}

/** What the inspection says of each tie. @throws where it says that a suspend is blocked. */
async function verdicts(pid: number): Promise<Record<string, string>> {
  const { findings } = await engine.json<Inspection>('inspect', String(pid));
  return Object.fromEntries(findings.map(({ tie, verdict }) => [tie, verdict]));
}

/** Suspends it after an inspection that lets it, closes its terminal, and resumes it. @returns its id. */
async function comeBack({ terminal, pid }: TypedJob): Promise<string> {
  expect(Object.values(await verdicts(pid))).not.toContain('blocking');
  const { workload } = await engine.json<Snapshot>('suspend', String(pid));
  await terminal.close();
  await engine.json('resume', workload);
  return workload;
}

const stateOf = async (pid: number) => {
  const line = await readFile(`/proc/${pid}/stat`, 'latin1');
  return line.slice(line.lastIndexOf(')') + 2).split(' ')[0];
};
const isStopped = (pid: number) =>
  vi.waitFor(async () => expect(await stateOf(pid)).toBe('T'), { timeout: 20_000 });

describe('a job that is stopped', () => {
  it('by Ctrl+Z goes on with the resume, where no shell could continue it', async () => {
    // Without a trap bash goes on after an interrupt that comes in the very moment in which its `sleep` ends.
    const path = await script(
      'stopped.sh',
      'trap \'trap - INT; kill -INT $$\' INT\ni=0; while :; do i=$((i+1)); echo "n $i"; sleep 0.1; done\n',
    );
    await using job = await typeInShell(`bash ${path}`);
    await job.terminal.until('n 3');
    job.terminal.type(stop);
    await job.terminal.until('Stopped');
    await isStopped(job.pid);
    expect(await verdicts(job.pid)).toMatchObject({ stopped: 'handled' });
    await using viewer = await attach(await comeBack(job));
    const place = await viewer.until(/n \d+\r\n/);
    // Here it does not stop, for nobody could continue it.
    viewer.type(stop);
    await viewer.until(/n \d+\r\nn \d+\r\n/, place);
    viewer.type(interrupt);
    expect(await viewer.ended()).toBe(128 + 2);
  });

  it('because it reads in the background reads in the foreground', async () => {
    const path = await script('reads.sh', 'read line; echo "got $line"; exit 9\n');
    await using job = await typeInShell(`bash ${path} &`);
    await isStopped(job.pid);
    // The shell has its terminal set for the editing of a line; the job has one of its own.
    await using viewer = await attach(await comeBack(job));
    viewer.type('this\r');
    await viewer.until('this\r\ngot this');
    expect(await viewer.ended()).toBe(9);
  });
});

it('a job with a child that has ended and that it has not looked at tells with what that ended', async () => {
  const path = await script(
    'zombie.py',
    'import os\nz = os.fork()\nif z == 0: os._exit(17)\nprint("child", z, flush=True)\ninput()\nprint("ended with", os.waitstatus_to_exitcode(os.waitpid(z, 0)[1]))\n',
  );
  await using job = await typeInShell(`python3 ${path}`);
  await job.terminal.until(/child \d+\r/);
  const child = Number(/child (\d+)/.exec(job.terminal.shown)?.[1]);
  expect((await engine.failure(4, 'suspend', String(child))).message).toMatch(/has ended/);
  await using viewer = await attach(await comeBack(job));
  viewer.type('\r');
  await viewer.until('ended with 17');
  expect(await viewer.ended()).toBe(0);
});

describe('a job that asks for a password', () => {
  it.each([
    ['itself', 'python3'],
    ['by a child', 'bash'],
  ])('%s at /dev/tty asks on, and does not show what is typed', async (_who, program) => {
    const question = await script('ask.py', 'import getpass; print("length", len(getpass.getpass()))\n');
    const caller = await script('ask.sh', `python3 ${question}\nexit\n`);
    await using job = await typeInShell(`${program} ${program === 'bash' ? caller : question}`);
    await job.terminal.until('Password:');
    await using viewer = await attach(await comeBack(job));
    viewer.type('secret\r');
    await viewer.until('length 6');
    expect(viewer.shown).not.toContain('secret');
    expect(await viewer.ended()).toBe(0);
  });
});

it('a shell that su has started has the terminal, and controls its jobs', async () => {
  await using job = await typeInShell('su games -s /bin/bash');
  await job.terminal.until(/games@.*\$ $|bash-[\d.]+\$ $/);
  job.terminal.type('KEPT=yes\n');
  await using viewer = await attach(await comeBack(job));
  viewer.type('echo $KEPT-$((40+2)) $(id -un)\r');
  await viewer.until('yes-42 games');
  viewer.type('echo now; cat\r');
  await viewer.until(/[\r\n]now/);
  // What is typed before it reads is not as it reads it.
  await sleep(500);
  viewer.type('twice\r');
  const place = await viewer.until('twice\r\ntwice');
  viewer.type(interrupt);
  await viewer.until('$ ', place);
  viewer.type('exit 3\r');
  expect(await viewer.ended()).toBe(3);
});

describe('mc', () => {
  it('draws its screen again, takes its keys, and gives the terminal back', async () => {
    const files = join(folder, 'files');
    await mkdir(files);
    for (const name of ['alpha', 'beta']) await writeFile(join(files, name), name);
    await using job = await typeInShell(`mc --nosubshell ${files} ${files}`);
    await job.terminal.until('beta');
    const id = await comeBack(job);
    await using viewer = await attach(id);
    await viewer.until('beta');
    const first = await emulate(viewer.shown);
    expect(first).toMatchObject({ isAlternate: true, applicationKeys: true });
    expect(first.lines.join('\n')).toMatch(/alpha[\s\S]*beta/);
    // As terminals send cursor keys to applications: down twice, then view.
    viewer.type('\x1bOB\x1bOB');
    viewer.type('\x1b3');
    await vi.waitFor(async () => expect((await emulate(viewer.shown)).lines[1]).toMatch(/^beta/), {
      timeout: 20_000,
    });
    viewer.type('\x1b0');
    viewer.type(leave);
    expect(await viewer.ended()).toBe(0);
    expect(await emulate(viewer.shown)).toMatchObject({ isAlternate: false, mouse: 'none' });

    await using second = await attach(id, { columns: 60, rows: 15 });
    await second.until('beta');
    second.type('\x1b0');
    expect(await second.ended()).toBe(0);
  });
});

describe('a terminal', () => {
  it.each([
    [1, 1],
    [1500, 50],
  ])('of %d columns and %d rows shows a job too', async (columns, rows) => {
    await using job = await typeInShell(`bash -c 'stty cols ${columns} rows ${rows}; exec cat'`);
    await vi.waitFor(
      async () => expect(await readFile(`/proc/${job.pid}/comm`, 'utf8').catch(() => '')).toBe('cat\n'),
      { timeout: 20_000 },
    );
    const id = await comeBack(job);
    await using viewer = await attach(id, { columns, rows });
    viewer.type('abc\r');
    await viewer.until(/a.*b.*c/s);
    viewer.type('\x04');
    expect(await viewer.ended()).toBe(0);
  });
});

it('a job that sees mounts of its own is not suspended', async () => {
  await using job = await typeInShell('unshare --mount sleep 1000');
  await vi.waitFor(async () => expect(await readFile(`/proc/${job.pid}/comm`, 'utf8')).toBe('sleep\n'), {
    timeout: 20_000,
  });
  const { message } = await engine.failure(3, 'suspend', String(job.pid));
  expect(message).toMatch(/sees other file systems than the rest of the machine.*Nothing was touched/);
  process.kill(job.pid);
});

it('a job that two want to suspend at once is suspended once', async () => {
  await using job = await typeInShell('sleep 1000');
  const both = await Promise.all([1, 2].map(() => engine.run(['suspend', '--json', String(job.pid)])));
  expect(both.map(({ code }) => code).sort()).toEqual([0, 1]);
  expect(both.find(({ code }) => code === 1)?.stdout).toContain('is just being suspended');
  const suspended = (await engine.json<Workload[]>('ps')).filter(({ state }) => state === 'suspended');
  expect(suspended).toHaveLength(1);
  const { id, pids } = await engine.json<Workload>('resume', suspended[0]?.id ?? '');
  // It is known by its number too, as what it is.
  expect(await engine.json<Inspection>('inspect', String(pids[0]))).toMatchObject({ target: 'sleep' });
  await engine.json('end', id);
});

it('a job that runs where it was started is ended with all that belongs to it', async () => {
  const path = await script(
    'stays.sh',
    "trap '' TERM HUP; sleep 1000 & echo below $!; while :; do sleep 0.1; done\n",
  );
  await using job = await typeInShell(`bash ${path}`);
  await job.terminal.until(/below \d+\r/);
  const below = Number(/below (\d+)/.exec(job.terminal.shown)?.[1]);
  const { workload } = await engine.json<Snapshot>('suspend', '--leave-running', String(job.pid));
  await engine.json('end', workload);
  // Who takes note of the end of the one whose parent has ended is not ours to say.
  for (const pid of [job.pid, below]) expect(await stateOf(pid).catch(() => 'Z')).toBe('Z');
});

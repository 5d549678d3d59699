/**
 * GIMP and Firefox on a display with a window manager, started by nobody of Torpor, napped and woken again and again while
 * somebody works with them, and the engine is killed in between. Two hundred times each with TORPOR_TEST_NAPS=200.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { noZram, type TestSwap, zramSwap } from '../support/swap.ts';

const run = promisify(execFile);
const naps = Number(process.env.TORPOR_TEST_NAPS) || 16;
const patient = { timeout: 30_000, interval: 50 };

const page = `<title>clicks 0</title><body style="margin:0"><div style="position:fixed;inset:0"></div>
<script>let n = 0; addEventListener('mousedown', () => { document.title = 'clicks ' + ++n; });</script>`;

let engine: TestEngine;
let display: TestDisplay;
let swap: TestSwap | undefined;
let folder: string;
let env: NodeJS.ProcessEnv;
let other: string;
const started: ChildProcess[] = [];

const say = async (program: string, ...args: string[]) => (await run(program, args, { env })).stdout.trim();

beforeAll(async () => {
  if (noZram === undefined) swap = await zramSwap(1024);
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-nap-long-');
  display = await TestDisplay.start();
  env = {
    ...process.env,
    DISPLAY: display.name,
    DBUS_SESSION_BUS_ADDRESS: 'disabled:',
    HOME: folder,
    NO_AT_BRIDGE: '1',
  };
  other = (await start(['xterm', '-geometry', '20x5', '-e', 'sleep', '10000'], 'xterm')).window;
}, 60_000);

afterAll(async () => {
  for (const child of started) {
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGKILL');
    await ended;
  }
  for (const each of [display, engine, swap]) await each?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function start(command: readonly string[], group: string) {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { env, stdio: 'ignore', cwd: folder });
  started.push(child);
  const window = await vi.waitFor(
    async () => {
      const found = await say('xdotool', 'search', '--onlyvisible', '--class', group);
      expect(found).not.toBe('');
      return found.split('\n').at(-1) ?? '';
    },
    { timeout: 60_000, interval: 200 },
  );
  return { pid: child.pid ?? 0, window };
}

const activate = (window: string) => say('xdotool', 'windowactivate', '--sync', window);

/** Cgroups that naps have made and that are there still, in all hierarchies. */
async function leftFrozen(): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  const folders = mounts.filter((line) => / - cgroup2? /.test(line)).map((line) => line.split(' ')[4] ?? '');
  const below = await Promise.all(folders.map((each) => readdir(each, { recursive: true }).catch(() => [])));
  return below.flat().filter((name) => name.includes(`torpor-${engine.paths.tag}-nap-`));
}

/**
 * Naps it and works with it.
 * @param act one thing that a person does in its window.
 * @param count how often that was done, by what the window shows.
 */
async function work(pid: number, window: string, act: () => Promise<unknown>, count: () => Promise<number>) {
  const before = await count();
  for (let time = 1; time <= naps; time++) {
    await activate(other);
    await vi.waitFor(() => engine.json('nap', '--anyway', String(pid)), patient);
    if (time % Math.ceil(naps / 4) === 0) {
      await engine.kill();
      const napping = (await engine.json<Workload[]>('ps')).filter(({ state }) => state === 'napping');
      expect(napping).toHaveLength(1);
    }
    await engine.json('wake', String(pid));
    await activate(window);
    await act();
    await vi.waitFor(async () => expect(await count()).toBe(before + time), patient);
  }
  expect(await leftFrozen()).toEqual([]);
  expect((await engine.json<Workload[]>('ps')).filter(({ state }) => state === 'napping')).toEqual([]);
}

describe('a program that is napped again and again', () => {
  it.skipIf(!existsSync('/usr/bin/firefox-esr'))(
    'counts every click: Firefox',
    { timeout: 1_200_000 },
    async () => {
      const file = join(folder, 'page.html');
      await writeFile(file, page);
      const profile = await mkdtemp(join(folder, 'profile-'));
      const preferences = ['datareporting.policy.dataSubmissionEnabled', 'browser.aboutwelcome.enabled'];
      await writeFile(
        join(profile, 'user.js'),
        preferences.map((name) => `user_pref("${name}", false);\n`).join(''),
      );
      const { pid } = await start(
        ['firefox-esr', '--no-remote', '--profile', profile, `file://${file}`],
        'firefox-esr',
      );
      const window = await vi.waitFor(async () => {
        const found = await say('xdotool', 'search', '--onlyvisible', '--name', '^clicks ');
        expect(found).not.toBe('');
        return found.split('\n').at(-1) ?? '';
      }, patient);
      const count = async () =>
        Number(/^clicks (\d+)/.exec(await say('xdotool', 'getwindowname', window))?.[1]);
      const click = async () => {
        await say('xdotool', 'mousemove', '--window', window, '300', '400');
        await say('xdotool', 'click', '1');
      };
      await work(pid, window, click, count);
    },
  );

  it.skipIf(!existsSync('/usr/bin/gimp'))('makes every copy: GIMP', { timeout: 1_200_000 }, async () => {
    const picture = join(folder, 'small.png');
    await run('convert', ['-size', '16x16', 'xc:white', picture]);
    const { pid } = await start(['gimp', '--no-splash', picture], 'gimp');
    const window = await vi.waitFor(
      async () => {
        const found = await say('xdotool', 'search', '--onlyvisible', '--name', 'small.* GIMP$');
        expect(found).not.toBe('');
        return found.split('\n').at(-1) ?? '';
      },
      { timeout: 60_000, interval: 200 },
    );
    // "[small] (copied)-3.0 (RGB color ...)": images are numbered as they come.
    const count = async () =>
      Number(/-(\d+)\.\d+ \(/.exec(await say('xdotool', 'getwindowname', window))?.[1] ?? 1);
    await work(pid, window, () => say('xdotool', 'key', 'ctrl+d'), count);
  });
});

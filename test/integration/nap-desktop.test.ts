/** Naps of a program that Torpor did not start, in a window on a desktop with a window manager, which goes on undisturbed. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';

const run = promisify(execFile);
const patient = { timeout: 20_000, interval: 100 };

let engine: TestEngine;
let display: TestDisplay;
let folder: string;
let env: NodeJS.ProcessEnv;
/** A real GTK program, and what stands beside it. */
let editor: { pid: number; window: string };
let other: { pid: number; window: string };
const started: ReturnType<typeof spawn>[] = [];

async function say(program: string, ...args: string[]): Promise<string> {
  return (await run(program, args, { env })).stdout.trim();
}

async function startWindow(command: readonly string[], search: readonly string[]) {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { env, stdio: 'ignore' });
  started.push(child);
  const window = await vi.waitFor(async () => {
    const found = await say('xdotool', 'search', '--onlyvisible', ...search);
    expect(found).not.toBe('');
    return found.split('\n').at(-1) ?? '';
  }, patient);
  return { pid: child.pid ?? 0, window };
}

const focus = (window: string) => say('xdotool', 'windowactivate', '--sync', window);
const protocols = () => say('xprop', '-id', editor.window, 'WM_PROTOCOLS');
const title = () => say('xdotool', 'getwindowname', editor.window);
const target = () => String(editor.pid);

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-nap-desktop-');
  display = await TestDisplay.start();
  env = {
    ...process.env,
    DISPLAY: display.name,
    DBUS_SESSION_BUS_ADDRESS: 'disabled:',
    HOME: folder,
    GTK_IM_MODULE: 'gtk-im-context-simple',
    NO_AT_BRIDGE: '1',
    GSETTINGS_BACKEND: 'memory',
  };
  editor = await startWindow(['mousepad', '--disable-server', join(folder, 'text')], ['--class', 'mousepad']);
  other = await startWindow(['xterm', '-e', 'sleep', '1000'], ['--class', 'xterm']);
}, 60_000);

afterAll(async () => {
  for (const child of started) {
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGKILL');
    await ended;
  }
  for (const each of [display, engine]) await each?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

it('is not put to a nap while its user is in it, unless told so', async () => {
  await focus(editor.window);
  expect((await engine.failure(3, 'nap', target())).message).toMatch(/You are in a window of/);
  await engine.json('nap', '--anyway', target());
  await engine.json('wake', target());
});

it('is left alone by the window manager while it naps, and takes what is typed afterwards', async () => {
  const before = await protocols();
  expect(before).toContain('_NET_WM_PING');
  await focus(other.window);
  await engine.json('nap', target());
  expect(await protocols()).not.toContain('_NET_WM_PING');
  expect(await protocols()).toContain('WM_DELETE_WINDOW');
  // The window manager does what it is asked meanwhile, with that window, too.
  await say('xdotool', 'windowmove', '--sync', other.window, '50', '60');
  await focus(editor.window);
  await say('xdotool', 'type', 'x');
  await engine.json('wake', target());
  expect(await protocols()).toBe(before);
  // What was typed while it napped came in, as did what follows.
  await say('xdotool', 'type', 'yz');
  await say('xdotool', 'key', 'ctrl+s');
  await vi.waitFor(() => expect(readFileSync(join(folder, 'text'), 'utf8').trim()).toBe('xyz'), patient);
});

it('is not put to a nap while a menu is open', async () => {
  await focus(editor.window);
  await say('xdotool', 'key', 'alt+f');
  try {
    await vi.waitFor(
      async () =>
        expect((await engine.failure(3, 'nap', '--anyway', target())).message).toMatch(/A menu is open/),
      patient,
    );
  } finally {
    await say('xdotool', 'key', 'Escape');
    await say('xdotool', 'key', 'Escape');
  }
  await focus(other.window);
  await vi.waitFor(() => engine.json('nap', target()), patient);
  await engine.json('wake', target());
});

it('has its window answered for again when the engine was killed meanwhile', async () => {
  const before = await protocols();
  await focus(other.window);
  await engine.json('nap', target());
  await engine.kill();
  const [napping] = (await engine.json<Workload[]>('ps')).filter(({ state }) => state === 'napping');
  expect(napping).toBeDefined();
  await engine.json('wake', target());
  expect(await protocols()).toBe(before);
  expect(await title()).toContain('text');
});

it('goes on after forty naps and as many words', { timeout: 240_000 }, async () => {
  let expected = readFileSync(join(folder, 'text'), 'utf8').trim();
  for (let time = 0; time < 40; time++) {
    await focus(other.window);
    await engine.json('nap', target());
    await engine.json('wake', target());
    await focus(editor.window);
    await say('xdotool', 'type', String(time % 10));
    expected += time % 10;
  }
  await say('xdotool', 'key', 'ctrl+s');
  await vi.waitFor(() => expect(readFileSync(join(folder, 'text'), 'utf8').trim()).toBe(expected), patient);
});

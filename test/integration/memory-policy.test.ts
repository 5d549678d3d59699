/**
 * The policy in the real app, beside a real engine, on a real X display with a window manager: what is put aside by itself,
 * and comes back as its user goes to it.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { defaultMemoryPolicy, type MemoryPolicy, type PolicyEntry } from '../../main/ipc/policy-view.ts';
import { TestApp, type TestWindow } from '../support/app.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';

const run = promisify(execFile);
const patient = { timeout: 60_000, interval: 100 };

let engine: TestEngine;
let display: TestDisplay;
let app: TestApp;
let window: TestWindow;
let folder: string;
let env: NodeJS.ProcessEnv;
let editor: { pid: number; window: string };
let terminal: { pid: number; window: string };
const started: ReturnType<typeof spawn>[] = [];

const say = async (program: string, ...args: string[]) => (await run(program, args, { env })).stdout.trim();

async function startWindow(command: readonly string[], name: string) {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { env, stdio: 'ignore' });
  started.push(child);
  const found = await vi.waitFor(async () => {
    const ids = await say('xdotool', 'search', '--onlyvisible', '--class', name);
    expect(ids).not.toBe('');
    return ids.split('\n').at(-1) ?? '';
  }, patient);
  return { pid: child.pid ?? 0, window: found };
}

const focus = (id: string) => say('xdotool', 'windowactivate', '--sync', id);
const view = () => window.call('memoryPolicy.view');
const set = async (policy: Partial<MemoryPolicy>) => {
  await window.call('settings.set', { memoryPolicy: { ...defaultMemoryPolicy, ...policy } });
};
const history = async () => (await view()).history;
const entries = async (what: PolicyEntry['what'], title: RegExp) =>
  (await history()).filter((each) => each.what === what && title.test(each.title));
const napping = async () =>
  (await engine.json<Workload[]>('ps'))
    .filter(({ state }) => state === 'napping')
    .flatMap(({ pids }) => pids);

async function startApp(): Promise<void> {
  const states = { XDG_STATE_HOME: join(folder, 'state'), HOME: folder };
  app = await TestApp.start(engine, { DISPLAY: display.name, ...states });
  window = await app.connect();
  await vi.waitFor(async () => expect((await window.call('state.get')).engine.kind).toBe('ready'), patient);
}

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-policy-');
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
  editor = await startWindow(['mousepad', '--disable-server', join(folder, 'text')], 'mousepad');
  terminal = await startWindow(['xterm', '-e', 'sleep', '1000'], 'xterm');
  await startApp();
}, 90_000);

afterAll(async () => {
  window?.[Symbol.dispose]();
  await app?.[Symbol.asyncDispose]();
  for (const child of started) {
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGKILL');
    await ended;
  }
  for (const each of [display, engine]) await each?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

afterEach(async () => {
  await set({});
  await focus(editor.window);
  await vi.waitFor(async () => expect(await napping()).toEqual([]), patient);
});

async function typed(text: string): Promise<void> {
  const path = join(folder, 'text');
  const before = existsSync(path) ? readFileSync(path, 'utf8').trim() : '';
  await say('xdotool', 'type', text);
  await say('xdotool', 'key', 'ctrl+s');
  await vi.waitFor(() => expect(readFileSync(path, 'utf8').trim()).toBe(`${before}${text}`), patient);
}

it('knows what has windows, and which of them its user is in', async () => {
  await focus(editor.window);
  const named = async (title: RegExp) => (await view()).applications.find((each) => title.test(each.title));
  await vi.waitFor(async () => expect(await named(/mousepad/i)).toMatchObject({ isInFront: true }), patient);
  await focus(terminal.window);
  await vi.waitFor(async () => {
    expect(await named(/mousepad/i)).toMatchObject({ isInFront: false, action: 'nap', isCapsule: false });
    expect(await named(/xterm/i)).toMatchObject({ isInFront: true });
  }, patient);
  expect(await view()).toMatchObject({ knowsWindows: true });
});

it('does nothing by itself until it is turned on, but knows what it would have gained', async () => {
  await set({ onMinimise: true });
  await say('xdotool', 'windowminimize', '--sync', editor.window);
  await vi.waitFor(async () => expect(await entries('napped', /mousepad/i)).toHaveLength(1), patient);
  const [entry] = await entries('napped', /mousepad/i);
  expect(entry).toMatchObject({ really: false, why: 'minimised', gainBytes: expect.any(Number) });
  expect(await napping()).toEqual([]);
  const { today } = await view();
  expect(today).toMatchObject({ applications: 1, gainBytes: entry?.gainBytes });
  expect(today.gainBytes).toBeGreaterThan(1e6);
  await focus(editor.window);
  await vi.waitFor(async () => expect(await entries('woken', /mousepad/i)).toHaveLength(1), patient);
  expect((await view()).today.gainBytes).toBe(entry?.gainBytes);
});

it('puts what is minimised to a nap, and wakes it as its user comes back', async () => {
  await focus(editor.window);
  await set({ mode: 'on', onMinimise: true });
  for (const text of ['a', 'b']) {
    await say('xdotool', 'windowminimize', '--sync', editor.window);
    await vi.waitFor(async () => expect(await napping()).toContain(editor.pid), patient);
    await focus(editor.window);
    await vi.waitFor(async () => expect(await napping()).toEqual([]), patient);
    await typed(text);
  }
  const done = (await entries('napped', /mousepad/i)).filter(({ really }) => really);
  expect(done).toHaveLength(2);
  expect(done[0]).toMatchObject({
    why: 'minimised',
    gainBytes: expect.any(Number),
    tookMs: expect.any(Number),
  });
});

it('leaves alone what a rule names', async () => {
  const { applications } = await view();
  const { application = '' } = applications.find(({ title }) => /mousepad/i.test(title)) ?? {};
  await set({ mode: 'on', onMinimise: true, rules: { [application]: 'never' } });
  const before = (await history()).length;
  await say('xdotool', 'windowminimize', '--sync', editor.window);
  await new Promise((resolve) => setTimeout(resolve, 13_000));
  expect(await napping()).toEqual([]);
  expect(await history()).toHaveLength(before);
});

it('says once why something is not put aside', async () => {
  await focus(editor.window);
  await set({ mode: 'on', onMinimise: true });
  await say('xdotool', 'windowminimize', '--sync', terminal.window);
  await vi.waitFor(async () => expect(await entries('left', /xterm/i)).toHaveLength(1), patient);
  expect((await entries('left', /xterm/i))[0]?.reason).toMatch(/sleep .* runs in its terminal/);
  expect(await napping()).toEqual([]);
});

it('lets what it has put aside go on when the app is killed, and remembers what it did', async () => {
  await focus(editor.window);
  await set({ mode: 'on', onMinimise: true });
  await say('xdotool', 'windowminimize', '--sync', editor.window);
  await vi.waitFor(async () => expect(await napping()).toContain(editor.pid), patient);
  // It naps a moment before that is written down.
  const before = await vi.waitFor(async () => {
    const known = await history();
    expect(known[0]).toMatchObject({ what: 'napped', really: true });
    const lines = readFileSync(join(folder, 'state/torpor/policy.jsonl'), 'utf8').trim().split('\n');
    expect(lines).toHaveLength(known.length);
    return known;
  }, patient);
  window[Symbol.dispose]();
  await app.kill();
  await vi.waitFor(async () => expect(await napping()).toEqual([]), patient);
  await startApp();
  expect((await history()).slice(-before.length)).toEqual(before);
  await focus(editor.window);
  await typed('c');
});

/**
 * Three real programs that need 2.5 GiB in a real limit of 1.5 GiB, with swap in zram: the policy keeps the one that its user is in
 * free of waits for memory, none is killed, and each comes back as its user goes to it.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { defaultMemoryPolicy } from '../../main/ipc/policy-view.ts';
import { TestApp, type TestWindow } from '../support/app.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { limitMemory, type MemoryLimit, noMemoryLimit } from '../support/memory-limit.ts';
import { noZram, type TestSwap, zramSwap } from '../support/swap.ts';

const run = promisify(execFile);
const program = new URL('../fixtures/hungry.py', import.meta.url).pathname;
const cannot =
  noMemoryLimit ?? noZram ?? (existsSync('/proc/pressure/memory') ? undefined : 'this kernel has no PSI');
const [limitMebibytes, eachMebibytes] = [1536, 850];
const patient = { timeout: 120_000, interval: 100 };

let engine: TestEngine;
let display: TestDisplay;
let app: TestApp;
let window: TestWindow;
let folder: string;
let swap: TestSwap;
let limit: MemoryLimit;
const programs = new Map<string, { child: ReturnType<typeof spawn>; window: string }>();

const env = () => ({ ...process.env, DISPLAY: display.name });
const say = async (...args: string[]) => (await run('xdotool', args, { env: env() })).stdout.trim();
const lines = (name: string) => {
  const path = join(folder, name);
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
};

async function start(name: string): Promise<void> {
  const words = [program, name, String(eachMebibytes), join(folder, name)];
  const script = `echo $$ >${limit.procs}; exec /usr/bin/python3 "$@"`;
  const child = spawn('sh', ['-c', script, 'sh', ...words], { env: env(), stdio: 'ignore' });
  const id = await vi.waitFor(async () => {
    const found = await say('search', '--onlyvisible', '--class', name).catch(() => '');
    expect(found).not.toBe('');
    return found.split('\n').at(-1) ?? '';
  }, patient);
  programs.set(name, { child, window: id });
}

/** @returns how long it took from the switch until a key reached it, in milliseconds */
async function goTo(name: string): Promise<number> {
  const { window: id = '' } = programs.get(name) ?? {};
  const before = lines(name).filter((line) => line.startsWith('key')).length;
  const startedAt = performance.now();
  await say('windowactivate', '--sync', id);
  await say('key', 'x');
  await vi.waitFor(
    () => expect(lines(name).filter((line) => line.startsWith('key')).length).toBeGreaterThan(before),
    { timeout: 60_000, interval: 5 },
  );
  return performance.now() - startedAt;
}

/** For how long somebody has waited for memory, in microseconds. */
const stalledUs = () =>
  Number(/^some .*total=(\d+)$/m.exec(readFileSync('/proc/pressure/memory', 'utf8'))?.[1] ?? 0);

beforeAll(async () => {
  if (cannot !== undefined) return;
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-pressure-');
  display = await TestDisplay.start();
  swap = await zramSwap(4096);
  limit = limitMemory('torpor-test-policy', limitMebibytes);
  app = await TestApp.start(engine, { DISPLAY: display.name, XDG_STATE_HOME: join(folder, 'state') });
  window = await app.connect();
  await vi.waitFor(async () => expect((await window.call('state.get')).engine.kind).toBe('ready'), patient);
}, 90_000);

afterAll(async () => {
  if (cannot !== undefined) return;
  window?.[Symbol.dispose]();
  await app?.[Symbol.asyncDispose]();
  for (const { child } of programs.values()) {
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGKILL');
    await ended;
  }
  for (const each of [display, engine]) await each?.[Symbol.asyncDispose]();
  await swap?.[Symbol.asyncDispose]();
  limit?.[Symbol.dispose]();
  await rm(folder, { recursive: true, force: true });
});

it.skipIf(cannot !== undefined)(
  'keeps the application in front free of waits for memory',
  { timeout: 400_000 },
  async () => {
    await window.call('settings.set', { memoryPolicy: { ...defaultMemoryPolicy, mode: 'on' } });
    for (const name of ['First', 'Second', 'Third']) {
      await start(name);
      await goTo(name);
    }
    // Who was just left is not put aside; who was left a while ago is, as the one in front waits for its memory.
    await sleep(31_000);
    await goTo('First');
    const napping = async () =>
      (await engine.json<Workload[]>('ps')).filter(({ state }) => state === 'napping').length;
    await vi.waitFor(async () => expect(await napping()).toBeGreaterThan(0), patient);
    await sleep(5000);
    const [before, from] = [stalledUs(), performance.now()];
    await sleep(10_000);
    const share = (stalledUs() - before) / 1000 / (performance.now() - from);
    const switches: number[] = [];
    for (const name of ['Second', 'Third', 'First']) switches.push(await goTo(name));
    const { history } = await window.call('memoryPolicy.view');
    console.log(
      JSON.stringify({
        pressure: `${(100 * share).toFixed(2)} %`,
        switchesMs: switches.map(Math.round),
        done: history.map(({ what, title, why, gainBytes = 0, tookMs = 0 }) =>
          [what, title, why, Math.round(gainBytes / 1024 ** 2), Math.round(tookMs)].join(' '),
        ),
      }),
    );
    expect(share).toBeLessThan(0.05);
    expect(limit.kills()).toBe(0);
    expect(history.some(({ what, why }) => what === 'napped' && why === 'pressure')).toBe(true);
  },
);

/** The Chromium shell on a real display, and what there is where there is no display or no Chromium. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { connectWindow } from '../support/app.ts';
import { patience, ShellScene, shellSuite } from '../support/shell-suite.ts';

const scene = new ShellScene();

describe('the Chromium shell', () => {
  shellSuite('chromium', scene, { TORPOR_ELECTRON: '' });

  it('opens the screen of an application in a window of its own, once, and closes it', async () => {
    await scene.ui(['--tray']);
    const { address } = JSON.parse((await scene.ui(['--browser', '--json'])).stdout);
    using window = await connectWindow(address);
    await window.until(({ engine }) => engine.kind === 'ready');
    const { id } = await scene.engine.start(['xterm']);
    await window.until(({ workloads }) => workloads.some((each) => each.id === id));
    await window.call('window.open', { kind: 'screen', workload: id });
    await window.call('window.open', { kind: 'home' });
    await window.call('window.open', { kind: 'screen', workload: id });
    // The main window goes from place to place; it is still one.
    await window.call('window.open', { kind: 'settings' });
    const instances = async () => (await scene.display.windows()).map(({ instance }) => instance).sort();
    await expect
      .poll(instances, patience)
      .toEqual(['127.0.0.1__window_main', `127.0.0.1__window_screen-${id}`].sort());
    const titles = async () => (await scene.display.windows()).map(({ title }) => title);
    await expect.poll(titles, patience).toContain('Settings – Torpor');
    await scene.display.picture('chromium-screen');
    await scene.engine.json('end', id);
  });

  it('opens the window of an application where it was, full-screen too, when that is restored or resumed', async () => {
    await scene.ui(['--tray']);
    const { address } = JSON.parse((await scene.ui(['--browser', '--json'])).stdout);
    using window = await connectWindow(address);
    await window.until(({ engine }) => engine.kind === 'ready');
    const { id } = await scene.engine.start(['xterm']);
    const inState = (state: string) =>
      window.until(({ workloads }) => workloads.some((each) => each.id === id && each.state === state));
    const shown = async () => {
      const [own] = await scene.display.windows();
      return own && { id: own.id, ...(await scene.display.place(own.id)) };
    };
    await inState('running');
    await window.call('window.open', { kind: 'screen', workload: id });
    await expect.poll(shown, patience).toBeDefined();
    const own = (await shown())?.id ?? '';
    await scene.display.move(own, { x: 90, y: 120, width: 640, height: 480 });
    await expect.poll(shown, patience).toMatchObject({ width: 640, height: 480 });
    const before = await shown();

    await window.call('session.save', { name: 'one', workloads: [id], partial: false, replace: false });
    // It shows the last picture meanwhile; a user may leave it, or move it.
    await scene.display.move(own, { x: 200, y: 20, width: 600, height: 400 });
    await expect.poll(shown, patience).toMatchObject({ width: 600 });
    const moved = await shown();
    await window.call('session.restore', 'one');
    await inState('running');
    expect(await shown()).toEqual(moved);

    await scene.display.move(own, { x: 90, y: 120, width: 640, height: 480 });
    await expect.poll(shown, patience).toEqual(before);
    await window.call('workload.suspend', id, { keepRunning: false });
    await scene.display.close(own);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    await window.call('workload.resume', id);
    await expect.poll(shown, patience).toEqual({ ...before, id: expect.anything() });

    await scene.display.press((await shown())?.id ?? '', 'F11');
    const isFull = async () => (await shown())?.states.includes('_NET_WM_STATE_FULLSCREEN');
    await expect.poll(isFull, patience).toBe(true);
    await scene.engine.json('suspend', id);
    await scene.ui(['--quit']);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    await scene.ui(['--tray']);
    await scene.engine.json('resume', id);
    await expect.poll(isFull, patience).toBe(true);

    // What was closed before the suspend stays closed.
    await scene.ui(['--quit']);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    await scene.ui(['--tray']);
    await scene.engine.json('suspend', id);
    await scene.engine.json('resume', id);
    await sleep(1500);
    expect(await scene.display.windows()).toEqual([]);
    await scene.engine.json('end', id);
  });

  it('knows only the sizes of its windows where there is no X server', async () => {
    const elsewhere = {
      DISPLAY: '',
      WAYLAND_DISPLAY: 'wayland-none',
      TORPOR_CHROMIUM_FLAGS: '--disable-gpu --ozone-platform=headless',
    };
    const { id } = await scene.engine.start(['xterm']);
    await scene.engine.json('suspend', id);
    const path = join(scene.folder, 'config/torpor/app.json');
    mkdirSync(dirname(path), { recursive: true });
    const kept = () => JSON.parse(readFileSync(path, 'utf8')).placements;
    const was = { size: { width: 730, height: 510 }, state: 'normal' };
    const moved = { ...was, position: { x: 30, y: 40 }, workspace: 2 };
    // What was on another display once comes back in its size.
    for (const placement of [was, moved]) {
      writeFileSync(path, JSON.stringify({ settings: {}, used: {}, placements: { [id]: placement } }));
      await scene.ui(['--tray'], elsewhere);
      const { address } = JSON.parse((await scene.ui(['--browser', '--json'], elsewhere)).stdout);
      using window = await connectWindow(address);
      await window.until(({ engine }) => engine.kind === 'ready');
      await scene.engine.json('resume', id);
      const isShown = () => scene.processes('--type=renderer').length > 0;
      await expect.poll(isShown, patience).toBe(true);
      await expect
        .poll(async () => {
          await window.call('workload.suspend', id, { keepRunning: true });
          return kept()[id];
        }, patience)
        .toEqual(was);
      await scene.engine.json('suspend', id);
      await scene.ui(['--quit']);
    }
    await scene.engine.json('forget', id);
  });

  it('gives no secret to a command line, and its profile to nobody else', async () => {
    await scene.ui();
    const lines = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        } catch {
          return '';
        }
      })
      .filter((line) => line.includes(scene.folder));
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.filter((line) => line.includes('token='))).toEqual([]);
    const state = join(scene.folder, 'state/torpor');
    const [profile = ''] = readdirSync(state).filter((name) => name.startsWith('chromium-'));
    expect(statSync(join(state, profile)).mode & 0o777).toBe(0o700);
  });

  it('says in the log that root has no sandbox', async () => {
    await scene.ui();
    if (process.getuid?.() === 0) expect(scene.log()).toContain('Chromium runs without its sandbox');
    else expect(scene.log()).not.toContain('sandbox');
  });

  it('starts Chromium anew when it has crashed', async () => {
    await scene.ui();
    await expect.poll(() => scene.display.windows(), patience).toHaveLength(1);
    const [first] = scene.processes('--remote-debugging-pipe').filter(isMain);
    process.kill(first ?? 0, 'SIGKILL');
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    expect((await scene.ui()).stdout).toBe('Torpor runs already: its window is in front.\n');
    await expect.poll(() => scene.display.windows(), patience).toHaveLength(1);
  });

  it('says what is wrong where the display cannot be opened, and stays usable', async () => {
    const { code, stderr } = await scene.ui([], { DISPLAY: ':9876' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^torpor: Chromium does not start: .+\n {2}.*torpor ui --browser/);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect((await scene.ui()).code).toBe(0);
    await expect.poll(() => scene.display.windows(), patience).toHaveLength(1);
  });

  it.each([
    ['without a display', { DISPLAY: '' }],
    ['without Chromium', { TORPOR_CHROMIUM: '/nowhere/chromium' }],
  ])('%s prints an address that works once', async (_what, env) => {
    const { code, stdout } = await scene.ui([], env as Record<string, string>);
    expect(code).toBe(0);
    const address = /http:\/\/127\.0\.0\.1:\d+\/\?token=[\w-]{43}/.exec(stdout)?.[0] ?? '';
    using window = await connectWindow(address);
    expect((await window.until((state) => state)).shell).toMatchObject({ kind: 'browser' });
    expect((await fetch(address, { redirect: 'manual' })).status).toBe(403);
    expect(stdout).not.toContain('ssh');
    expect(await scene.display.windows()).toEqual([]);
  });

  it('says how to forward the port to who is logged in over ssh', async () => {
    const env = { DISPLAY: '', SSH_CONNECTION: '192.0.2.1 50000 192.0.2.7 22' };
    const { stdout } = await scene.ui([], env);
    const port = /127\.0\.0\.1:(\d+)\/\?token/.exec(stdout)?.[1];
    expect(stdout).toMatch(new RegExp(`ssh -L ${port}:127\\.0\\.0\\.1:${port} \\S+@192\\.0\\.2\\.7`));
  });

  it.each([
    [['/nowhere/at/all'], 4, /There is no file \/nowhere\/at\/all/],
    [['--nonsense'], 2, /nonsense/],
  ])('refuses %j in a sentence and starts nothing', async (args, expected, sentence) => {
    const { code, stderr } = await scene.ui(args);
    expect(code).toBe(expected);
    expect(stderr).toMatch(sentence);
    expect((await scene.ui(['--quit'])).stdout).toBe('Torpor was not running.\n');
  });

  it('stays in the foreground where that is asked for, until it is ended', async () => {
    const running = scene.ui(['--foreground', '--tray']);
    await expect.poll(async () => (await scene.ui(['--tray'])).stdout, patience).toContain('runs already');
    await scene.ui(['--quit']);
    expect(await running).toMatchObject({ code: 0 });
  });
});

/** Not one of the processes that Chromium starts for itself. */
function isMain(pid: number): boolean {
  return !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('--type=');
}

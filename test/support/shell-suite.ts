/**
 * What every shell with windows does, whatever shows them: the conformance suite of main/shells/. It sees what a user sees,
 * on a real display with a window manager, with the real app and engine; which shell the app takes is up to `env`.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { TestDisplay } from './display.ts';
import { isThere, type Outcome, TestEngine } from './engine.ts';

/** A machine that is busy with other tests takes its time. */
export const patience = { timeout: 30_000, interval: 100 };

export class ShellScene {
  readonly folder = mkdtempSync(join(tmpdir(), 'torpor-shell-'));
  engine!: TestEngine;
  display!: TestDisplay;
  env: Record<string, string> = {};

  async start(env: Record<string, string>): Promise<void> {
    this.engine = await TestEngine.create();
    this.display = await TestDisplay.start();
    const { folder } = this;
    this.env = {
      DISPLAY: this.display.name,
      WAYLAND_DISPLAY: '',
      DBUS_SESSION_BUS_ADDRESS: '',
      SSH_CONNECTION: '',
      HOME: folder,
      XDG_RUNTIME_DIR: folder,
      XDG_CONFIG_HOME: join(folder, 'config'),
      XDG_DATA_HOME: join(folder, 'data'),
      XDG_STATE_HOME: join(folder, 'state'),
      TORPOR_CHROMIUM_FLAGS: '--disable-gpu',
      ...env,
    };
  }

  /** Runs `torpor ui` to its end. */
  ui(args: readonly string[] = [], env: Record<string, string> = {}): Promise<Outcome> {
    return this.engine.run(['ui', ...args], { env: { ...this.env, ...env } });
  }

  log(): string {
    return readFileSync(join(this.folder, 'state/torpor/app.log'), 'utf8');
  }

  /** Pids of everything that was started with this scene's folder, by the words of its command line. */
  processes(...words: string[]): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => {
        const line = commandLine(pid);
        return line.includes(this.folder) && words.every((word) => line.includes(word));
      })
      .map(Number);
  }

  async end(): Promise<void> {
    await this.ui(['--quit']);
    await this.display[Symbol.asyncDispose]();
    await this.engine[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

/** @param kind as the app calls the shell */
export function shellSuite(
  kind: 'chromium' | 'electron',
  scene: ShellScene,
  env: Record<string, string>,
): void {
  beforeAll(() => scene.start(env));
  afterAll(() => scene.end());
  // Each test starts with the app ended.
  afterEach(async () => {
    await scene.ui(['--quit']);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
  });

  const home = async () =>
    (await scene.display.windows()).find(({ title }) => title.includes('Torpor') && !title.includes('xterm'));
  const shown = async () => {
    await expect.poll(home, patience).toBeDefined();
    return (await home()) ?? { id: '', title: '', instance: '', group: '' };
  };

  it('opens a window of its own, with title and class, by which the desktop knows it', async () => {
    const { code, stdout } = await scene.ui(['--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ text: 'Torpor runs: its window is in front.', shell: kind });
    expect(await shown()).toMatchObject({ title: expect.stringMatching(/Torpor$/), group: 'Torpor' });
    expect(await scene.display.windows()).toHaveLength(1);
    await scene.display.picture(`${kind}-home`);
  });

  it('is brought to the front by a second start, from behind another window and from an icon', async () => {
    await scene.ui();
    const { id } = await shown();
    await scene.display.cover();
    const { code, stdout } = await scene.ui();
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'Torpor runs already: its window is in front.\n' });
    await expect.poll(() => scene.display.activeTitle(), patience).toMatch(/Torpor$/);

    await scene.display.minimize(id);
    await expect.poll(() => scene.display.isVisible(id), patience).toBe(false);
    await scene.ui();
    await expect.poll(() => scene.display.isVisible(id), patience).toBe(true);
    expect(await scene.display.windows()).toHaveLength(1);
  });

  it('lives on when its window is closed, and opens another', async () => {
    await scene.ui();
    await scene.display.close((await shown()).id);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    expect((await scene.ui()).stdout).toBe('Torpor runs already: its window is in front.\n');
    await shown();
  });

  it('opens no window when it is asked for the tray only', async () => {
    expect((await scene.ui(['--tray'])).stdout).toMatch(/^Torpor runs: it is in the tray/);
    expect(await scene.display.windows()).toEqual([]);
    expect((await scene.ui(['--tray'])).stdout).toMatch(/^Torpor runs already: it is in the tray/);
    expect(await scene.display.windows()).toEqual([]);
  });

  it('opens a file with its application, in a window of its own', async () => {
    const file = join(scene.folder, 'a note.txt');
    writeFileSync(file, 'some text\n');
    // Whatever else this machine has for text.
    mkdirSync(join(scene.folder, 'config'), { recursive: true });
    const choice = '[Default Applications]\ntext/plain=org.xfce.mousepad.desktop\n';
    writeFileSync(join(scene.folder, 'config/mimeapps.list'), choice);
    const { code, stdout } = await scene.ui(['--open', file]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'Torpor runs: what was asked for is open.\n' });
    const windows = await scene.display.windows();
    expect(windows).toHaveLength(1);
    await scene.display.picture(`${kind}-file`);
    for (const { id } of await scene.engine.json<{ id: string }[]>('ps')) await scene.engine.json('end', id);
  });

  it('opens the windows of a session where they were, in the size and on the workspace that they had', async () => {
    // Whatever else this machine has for text.
    mkdirSync(join(scene.folder, 'config'), { recursive: true });
    const choice = '[Default Applications]\ntext/plain=org.xfce.mousepad.desktop\n';
    writeFileSync(join(scene.folder, 'config/mimeapps.list'), choice);
    const open = async (name: string) => {
      const before = (await scene.display.windows()).map(({ id }) => id);
      writeFileSync(join(scene.folder, name), 'some text\n');
      expect((await scene.ui(['--open', join(scene.folder, name)])).code).toBe(0);
      const own = async () => (await scene.display.windows()).find(({ id }) => !before.includes(id));
      await expect.poll(own, patience).toBeDefined();
      return (await own())?.id ?? '';
    };
    const first = await open('first.txt');
    await scene.display.move(first, { x: 240, y: 160, width: 700, height: 520 });
    await scene.display.toWorkspace(first, 2);
    const second = await open('second.txt');
    await scene.display.toggleMaximised(second);
    await scene.display.toWorkspace(second, 1);
    const unseen = await scene.engine.start(['xterm']);
    const places = async () => {
      const all = (await scene.display.windows()).map(({ id }) => scene.display.place(id));
      return (await Promise.all(all))
        .map(({ states, ...place }) => ({
          ...place,
          isMaximised: states.includes('_NET_WM_STATE_MAXIMIZED_VERT'),
        }))
        .sort((a, b) => b.workspace - a.workspace);
    };
    await expect.poll(places, patience).toMatchObject([
      { width: 700, height: 520, workspace: 2, isMaximised: false },
      { workspace: 1, isMaximised: true },
    ]);
    const before = await places();
    await scene.engine.json('session', 'save', 'places');
    // As a reboot does.
    await scene.ui(['--quit']);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    await scene.ui(['--tray']);
    await scene.engine.json('session', 'restore', 'places');
    await expect.poll(places, patience).toEqual(before);
    expect((await scene.engine.workload(unseen.id)).state).toBe('running');
    for (const { id, state } of await scene.engine.json<{ id: string; state: string }[]>('ps'))
      if (state === 'running') await scene.engine.json('end', id);
  });

  it('is one app however many are started at once', async () => {
    const outcomes = await Promise.all([1, 2, 3].map(() => scene.ui()));
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(outcomes.filter(({ stdout }) => stdout.startsWith('Torpor runs:'))).toHaveLength(1);
    await shown();
    expect(await scene.display.windows()).toHaveLength(1);
  });

  it('ends with all that it has started', async () => {
    await scene.ui();
    await shown();
    const { stdout } = await scene.ui(['--quit']);
    expect(stdout).toBe('Torpor has been ended. Applications that it shows run on.\n');
    await expect
      .poll(() => scene.processes(kind === 'chromium' ? '--user-data-dir' : 'electron'), patience)
      .toEqual([]);
    expect((await scene.ui(['--quit'])).stdout).toBe('Torpor was not running.\n');
  });

  it('takes over from an app that was killed', async () => {
    const first = await scene.ui();
    expect(first.code).toBe(0);
    await shown();
    const app = appPid(scene);
    process.kill(app, 'SIGKILL');
    await expect.poll(() => isThere(app), patience).toBe(false);
    await expect.poll(() => scene.display.windows(), patience).toEqual([]);
    expect((await scene.ui()).stdout).toBe('Torpor runs: its window is in front.\n');
    await shown();
  });
}

/** The app's own process: the one whose environment has this scene's folder and that is no child of another such. */
export function appPid(scene: ShellScene): number {
  for (const name of readdirSync('/proc').filter((each) => /^\d+$/.test(each))) {
    const line = commandLine(name);
    if (!/torpor-app\.mjs|electron\/main\.mjs/.test(line) || line.includes('--type=')) continue;
    try {
      if (readFileSync(`/proc/${name}/environ`, 'utf8').includes(`XDG_RUNTIME_DIR=${scene.folder}\0`))
        return Number(name);
    } catch {
      // It has ended.
    }
  }
  throw new Error('the app does not run');
}

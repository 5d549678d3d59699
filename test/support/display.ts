/** A real X display with a window manager and nothing else, and what a person would see and do there. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { end } from './programs.ts';

const run = promisify(execFile);

export interface XWindow {
  id: string;
  title: string;
  /** Both parts of WM_CLASS. */
  instance: string;
  group: string;
}

/** Where a window is, as other programs see it. */
export interface XPlace {
  /** Of what is inside its frame. */
  x: number;
  y: number;
  width: number;
  height: number;
  workspace: number;
  /** Atoms of _NET_WM_STATE. */
  states: string[];
}

export class TestDisplay implements AsyncDisposable {
  readonly #children: ChildProcess[];
  /** Such as `:99`. */
  readonly name: string;

  private constructor(name: string, children: ChildProcess[]) {
    this.name = name;
    this.#children = children;
  }

  static async start(): Promise<TestDisplay> {
    // A server that begins anew when its last client goes would take with it one that is just coming.
    const args = ['-displayfd', '3', '-screen', '0', '1300x900x24', '-nolisten', 'tcp', '-noreset'];
    const server = spawn('Xvfb', args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
    const [number] = (await once(server.stdio[3] as Readable, 'data')) as [Buffer];
    const name = `:${String(number).trim()}`;
    const display = new TestDisplay(name, [server]);
    try {
      await display.#manage();
    } catch (error) {
      await display[Symbol.asyncDispose]();
      throw error;
    }
    return display;
  }

  /** Starts the window manager, again if it has ended, and waits until it manages. */
  async #manage(): Promise<void> {
    const isManaged = async () =>
      (await this.#ask('xprop', '-root', '_NET_SUPPORTING_WM_CHECK')).includes('window id');
    let said = '';
    for (const limit = Date.now() + 30_000; Date.now() < limit; ) {
      const stdio = ['ignore', 'ignore', 'pipe'] as const;
      const manager = spawn('openbox', [], {
        env: { ...process.env, DISPLAY: this.name },
        stdio: [...stdio],
      });
      this.#children.unshift(manager);
      manager.stderr?.on('data', (text) => {
        said += text;
      });
      for (; manager.exitCode === null && manager.signalCode === null && Date.now() < limit; await sleep(50))
        if (await isManaged()) return;
    }
    throw new Error(`no window manager on ${this.name}: ${said}`);
  }

  /** The windows that a window manager would list, by the class that groups them. */
  async windows(group = 'Torpor'): Promise<XWindow[]> {
    const list = await this.#ask('xprop', '-root', '_NET_CLIENT_LIST');
    const ids = list.match(/0x[0-9a-f]+/g) ?? [];
    const all = await Promise.all(ids.map((id) => this.#describe(id)));
    return all.filter((window) => window.group === group);
  }

  /** Title of the window that has the keyboard. */
  async activeTitle(): Promise<string> {
    const [id] = (await this.#ask('xprop', '-root', '_NET_ACTIVE_WINDOW')).match(/0x[0-9a-f]+/) ?? [];
    return id === undefined || id === '0x0' ? '' : (await this.#describe(id)).title;
  }

  async place(id: string): Promise<XPlace> {
    const [info, props] = await Promise.all([
      this.#ask('xwininfo', '-id', id),
      this.#ask('xprop', '-id', id, '_NET_WM_DESKTOP', '_NET_WM_STATE'),
    ]);
    const number = (text: string, from = info) => Number(new RegExp(`${text}\\s*(-?\\d+)`).exec(from)?.[1]);
    return {
      x: number('Absolute upper-left X:'),
      y: number('Absolute upper-left Y:'),
      width: number('Width:'),
      height: number('Height:'),
      workspace: number('_NET_WM_DESKTOP\\(CARDINAL\\) =', props),
      states: props.match(/_NET_WM_STATE_\w+/g) ?? [],
    };
  }

  /** Its frame to a place, and what is inside to a size. */
  async move(id: string, { x, y, width, height }: Omit<XPlace, 'workspace' | 'states'>): Promise<void> {
    await this.#ask('xdotool', 'windowsize', id, String(width), String(height));
    await this.#ask('xdotool', 'windowmove', id, String(x), String(y));
  }

  async toWorkspace(id: string, workspace: number): Promise<void> {
    await this.#ask('xdotool', 'set_desktop_for_window', id, String(workspace));
  }

  /** By a double click on its title bar, which maximises it or undoes that. */
  async toggleMaximised(id: string): Promise<void> {
    await this.#ask('xdotool', 'windowactivate', '--sync', id);
    const { x, y, width } = await this.place(id);
    const [at, above] = [String(x + (width >> 1)), String(y - 8)];
    await this.#ask('xdotool', 'mousemove', at, above, 'click', '--repeat', '2', '--delay', '60', '1');
  }

  async press(id: string, key: string): Promise<void> {
    await this.#ask('xdotool', 'windowactivate', '--sync', id, 'key', key);
  }

  async minimize(id: string): Promise<void> {
    await this.#ask('xdotool', 'windowminimize', id);
  }

  async isVisible(id: string): Promise<boolean> {
    return (await this.#ask('xwininfo', '-id', id)).includes('IsViewable');
  }

  /** As the button of its title bar does. */
  async close(id: string): Promise<void> {
    await this.#ask('xdotool', 'windowactivate', '--sync', id, 'key', 'alt+F4');
  }

  /** Puts a window of another program over everything. */
  async cover(): Promise<void> {
    this.#children.unshift(
      spawn('xterm', ['-T', 'cover', '-geometry', '200x60+0+0'], {
        env: { ...process.env, DISPLAY: this.name },
        stdio: 'ignore',
      }),
    );
    for (const limit = Date.now() + 10_000; Date.now() < limit; await sleep(100))
      if ((await this.activeTitle()) === 'cover') return;
    throw new Error('xterm did not come to the front');
  }

  /** Takes a picture, where `TORPOR_TEST_PICTURES` names a folder for it. */
  async picture(name: string): Promise<void> {
    const folder = process.env.TORPOR_TEST_PICTURES;
    if (folder) await this.#ask('import', '-window', 'root', `${folder}/${name}.png`);
  }

  async #describe(id: string): Promise<XWindow> {
    const text = await this.#ask('xprop', '-id', id, 'WM_CLASS', '_NET_WM_NAME', 'WM_NAME');
    const [, instance = '', group = ''] = /WM_CLASS\(STRING\) = "(.*)", "(.*)"/.exec(text) ?? [];
    const title = /_NET_WM_NAME\(UTF8_STRING\) = "(.*)"/.exec(text) ?? /WM_NAME\(.*\) = "(.*)"/.exec(text);
    return { id, title: title?.[1] ?? '', instance, group };
  }

  async #ask(program: string, ...args: string[]): Promise<string> {
    try {
      const { stdout } = await run(program, args, {
        env: { ...process.env, DISPLAY: this.name, LANG: 'C.UTF-8' },
      });
      return stdout;
    } catch {
      // The window has gone meanwhile.
      return '';
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) await end(child, 'SIGTERM');
  }
}

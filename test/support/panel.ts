/**
 * A small desktop: an X server, a session bus, and Xfce's panel with nothing in it but its tray, which is a real watcher and
 * host of StatusNotifierItems and shows their menus. Everything it starts ends with it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { end } from './programs.ts';

const width = 800;
const height = 600;
const panelXml = `<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array">
    <value type="int" value="1"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=6;x=0;y=0"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="length" type="uint" value="100"/>
      <property name="size" type="uint" value="30"/>
      <property name="icon-size" type="uint" value="22"/>
      <property name="plugin-ids" type="array"><value type="int" value="1"/></property>
    </property>
  </property>
  <property name="plugins" type="empty"><property name="plugin-1" type="string" value="systray"/></property>
</channel>
`;

/** Starts a program and gives what it writes to a pipe of its own, up to the first line's end. */
async function firstLine(child: ChildProcess, descriptor: number, name: string): Promise<string> {
  let text = '';
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${name} ended with ${code}`)));
    child.stdio[descriptor]?.on('data', (data: Buffer) => {
      text += data.toString();
      if (text.includes('\n')) resolve(text.trim());
    });
  });
}

/** A session bus of its own, with the services that are installed. */
export class SessionBus implements AsyncDisposable {
  readonly address: string;
  readonly #daemon: ChildProcess;

  private constructor(daemon: ChildProcess, address: string) {
    this.#daemon = daemon;
    this.address = address;
  }

  static async start(socket: string, env: NodeJS.ProcessEnv = process.env): Promise<SessionBus> {
    const daemon = spawn(
      'dbus-daemon',
      ['--session', '--nofork', '--nopidfile', `--address=unix:path=${socket}`, '--print-address=3'],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe'], env },
    );
    await firstLine(daemon, 3, 'dbus-daemon');
    return new SessionBus(daemon, `unix:path=${socket}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#daemon, 'SIGTERM');
  }
}

export class PanelDesktop implements AsyncDisposable {
  readonly bus: SessionBus;
  /** The RFB socket of its screen. */
  readonly screen: string;
  readonly #folder: string;
  readonly #server: ChildProcess;
  readonly #env: NodeJS.ProcessEnv;
  #panel: ChildProcess | undefined;

  private constructor(folder: string, server: ChildProcess, bus: SessionBus, env: NodeJS.ProcessEnv) {
    this.#folder = folder;
    this.#server = server;
    this.bus = bus;
    this.screen = join(folder, 'rfb');
    this.#env = env;
  }

  /** Starts the screen and the bus, without a panel. */
  static async start(): Promise<PanelDesktop> {
    const folder = await mkdtemp('/var/tmp/torpor-panel-');
    const channels = join(folder, 'config/xfce4/xfconf/xfce-perchannel-xml');
    await mkdir(channels, { recursive: true });
    await mkdir(join(folder, 'run'), { mode: 0o700 });
    await writeFile(join(channels, 'xfce4-panel.xml'), panelXml);
    const server = spawn(
      'Xvnc',
      // It takes a display that is free, and no abstract socket, which would reach into capsules.
      ['-displayfd', '3', '-geometry', `${width}x${height}`, '-depth', '24', '-SecurityTypes', 'None'].concat(
        ['-rfbport', '-1', '-rfbunixpath', join(folder, 'rfb'), '-nolisten', 'tcp', '-nolisten', 'local'],
      ),
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] },
    );
    const display = await firstLine(server, 3, 'Xvnc');
    const env = {
      PATH: process.env.PATH,
      LANG: 'C.UTF-8',
      DISPLAY: `:${display}`,
      HOME: folder,
      XDG_CONFIG_HOME: join(folder, 'config'),
      XDG_CACHE_HOME: join(folder, 'cache'),
      XDG_DATA_HOME: join(folder, 'data'),
      XDG_RUNTIME_DIR: join(folder, 'run'),
      GSETTINGS_BACKEND: 'memory',
    };
    const bus = await SessionBus.start(join(folder, 'bus'), env);
    return new PanelDesktop(folder, server, bus, env);
  }

  startPanel(): void {
    const env = { ...this.#env, DBUS_SESSION_BUS_ADDRESS: this.bus.address };
    this.#panel = spawn('xfce4-panel', ['--disable-wm-check'], { stdio: 'ignore', env });
  }

  async stopPanel(): Promise<void> {
    await end(this.#panel, 'SIGTERM');
    this.#panel = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopPanel();
    // What the bus has started ends with the bus, and what has windows with the screen.
    await this.bus[Symbol.asyncDispose]();
    await end(this.#server, 'SIGTERM');
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Asks until the answer is not undefined. @throws Error with `what` after the time limit. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined | Promise<T | undefined>,
  limitMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`${what} did not happen within ${limitMs} ms`);
    await sleep(40);
  }
}

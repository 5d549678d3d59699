/**
 * One running Chromium with a profile of its own, and its app-mode windows. The first process shows nothing and is driven
 * through its pipe, which no other program can reach; a window is opened by a second one that hands its address over and
 * ends, as Chromium has no other way to open a window in app mode. The session comes in through the pipe, so that no
 * command line, which every user can read, holds a secret.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../../api/errors.ts';
import type { WindowPlacement } from '../placement.ts';
import { DevToolsPipe } from './devtools-pipe.ts';
import { chromiumFlags, firstPreferences } from './flags.ts';

export interface ChromiumOptions {
  program: string;
  /** Its profile folder, made where it is not there. */
  profile: string;
  /** More flags, from the user. */
  flags?: readonly string[];
  env?: NodeJS.ProcessEnv;
}

const startLimitMs = 30_000;
const windowLimitMs = 20_000;
const endLimitMs = 5000;
const mostComplaints = 4000;

interface TargetInfo {
  targetId: string;
  type: string;
  url: string;
}

/** What Chromium knows of a window of its own. */
interface WindowBounds {
  width?: number;
  height?: number;
  windowState?: 'normal' | 'minimized' | 'maximized' | 'fullscreen';
}

const instead = '`torpor ui --browser` prints an address for any browser on this machine.';

export class Chromium implements AsyncDisposable {
  readonly #options: ChromiumOptions;
  readonly #child: ChildProcess;
  readonly #pipe: DevToolsPipe;
  readonly #targets = new Map<string, TargetInfo>();
  readonly #watchers = new Set<() => void>();
  readonly #closed: (target: string) => void;
  #complaints = '';

  private constructor(options: ChromiumOptions, closed: (target: string) => void) {
    this.#options = options;
    this.#closed = closed;
    this.#child = spawn(
      options.program,
      [...flagsOf(options), '--remote-debugging-pipe', '--no-startup-window'],
      { env: options.env ?? process.env, stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] },
    );
    this.#child.on('error', (error) => this.#complain(error.message));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#complain(text));
    const [, , , input, output] = this.#child.stdio;
    this.#pipe = new DevToolsPipe(input as Writable, output as Readable, (method, params) =>
      this.#event(method, params),
    );
    this.#child.once('exit', () => {
      for (const target of this.#targets.keys()) this.#gone(target);
    });
  }

  /**
   * @param closed called with each window that is not there any more, whoever has closed it
   * @throws TorporError saying why it does not run
   */
  static async start(options: ChromiumOptions, closed: (target: string) => void): Promise<Chromium> {
    prepareProfile(options.profile);
    const chromium = new Chromium(options, closed);
    try {
      await inTime(chromium.#pipe.call('Browser.getVersion'), startLimitMs);
      await chromium.#pipe.call('Target.setDiscoverTargets', {
        discover: true,
        filter: [{ type: 'page' }],
      });
      return chromium;
    } catch (error) {
      await chromium[Symbol.asyncDispose]();
      throw new TorporError(
        'failed',
        `Chromium does not start: ${chromium.#reason(error as Error)}`,
        `Start ${options.program} yourself to see what it lacks; ${instead}`,
        {},
        { cause: error },
      );
    }
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null && this.#child.pid !== undefined;
  }

  onExit(listener: () => void): void {
    if (this.isRunning) this.#child.once('exit', listener);
    else listener();
  }

  setCookie(origin: string, name: string, value: string): Promise<void> {
    const cookie = { name, value, url: `${origin}/`, path: '/', httpOnly: true, sameSite: 'Strict' };
    return this.#pipe.call('Storage.setCookies', { cookies: [cookie] });
  }

  /** Opens an app-mode window. @returns its target. @throws TorporError where none appears */
  async open(address: string): Promise<string> {
    const before = new Set(this.#targets.keys());
    const opener = spawn(this.#options.program, [...flagsOf(this.#options), `--app=${address}`], {
      env: this.#options.env ?? process.env,
      stdio: 'ignore',
    });
    opener.on('error', (error) => this.#complain(error.message));
    // The hash may have become another one by the time it is seen.
    const withoutHash = (url: string) => url.split('#')[0];
    const isNew = ({ targetId, url }: TargetInfo) =>
      !before.has(targetId) && withoutHash(url) === withoutHash(address);
    try {
      return await inTime(this.#appears(isNew), windowLimitMs);
    } catch (error) {
      opener.kill();
      throw new TorporError(
        'failed',
        `Chromium opens no window: ${this.#reason(error as Error)}`,
        `Try again; ${instead}`,
        {},
        { cause: error },
      );
    }
  }

  /** Brings a window to the front, from an icon too. */
  async show(target: string): Promise<void> {
    const { windowId, bounds } = await this.#windowFor(target);
    if (bounds.windowState === 'minimized')
      await this.#pipe.call('Browser.setWindowBounds', { windowId, bounds: { windowState: 'normal' } });
    await this.#pipe.call('Target.activateTarget', { targetId: target });
  }

  /** Size and state, which is what is known without an X server. */
  async placementOf(target: string): Promise<WindowPlacement> {
    const { width = 1, height = 1, windowState } = (await this.#windowFor(target)).bounds;
    const state =
      windowState === 'fullscreen' ? 'full-screen' : windowState === 'maximized' ? 'maximised' : 'normal';
    return { size: { width, height }, state };
  }

  async place(target: string, { size, state }: WindowPlacement): Promise<void> {
    const { windowId } = await this.#windowFor(target);
    const bounds: WindowBounds =
      state === 'normal' ? size : { windowState: state === 'maximised' ? 'maximized' : 'fullscreen' };
    await this.#pipe.call('Browser.setWindowBounds', { windowId, bounds });
  }

  #windowFor(target: string): Promise<{ windowId: number; bounds: WindowBounds }> {
    return this.#pipe.call('Browser.getWindowForTarget', { targetId: target });
  }

  /** Takes the page in a window to another hash. */
  async goTo(target: string, hash: string): Promise<void> {
    const { sessionId } = await this.#pipe.call<{ sessionId: string }>('Target.attachToTarget', {
      targetId: target,
      flatten: true,
    });
    // While the page is only just being loaded, there is an empty one, or none.
    const expression = `location.protocol !== 'about:' && ((location.hash = ${JSON.stringify(hash)}), true)`;
    const end = Date.now() + windowLimitMs;
    const isThere = () =>
      this.#pipe.call<{ result: { value?: boolean } }>('Runtime.evaluate', { expression }, sessionId).then(
        ({ result }) => result.value === true,
        (error: Error) => {
          if (!/execution context/.test(error.message)) throw error;
          return false;
        },
      );
    while (!(await isThere())) {
      if (Date.now() > end)
        throw new Error(`a window of Chromium shows no page within ${windowLimitMs / 1000} s`);
      await sleep(20);
    }
    await this.#pipe.call('Target.detachFromTarget', { sessionId });
  }

  async close(target: string): Promise<void> {
    await this.#pipe.call('Target.closeTarget', { targetId: target });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isRunning) return;
    const exited = once(this.#child, 'exit');
    this.#pipe.call('Browser.close').catch(() => {});
    await inTime(exited, endLimitMs).catch(async () => {
      this.#child.kill('SIGKILL');
      await exited;
    });
  }

  #event(method: string, params: unknown): void {
    if (method === 'Target.targetDestroyed') {
      this.#gone((params as { targetId: string }).targetId);
      return;
    }
    if (method !== 'Target.targetCreated' && method !== 'Target.targetInfoChanged') return;
    const { targetInfo } = params as { targetInfo: TargetInfo };
    this.#targets.set(targetInfo.targetId, targetInfo);
    for (const watcher of this.#watchers) watcher();
  }

  #gone(target: string): void {
    if (this.#targets.delete(target)) this.#closed(target);
  }

  #appears(isIt: (target: TargetInfo) => boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = [...this.#targets.values()].find(isIt);
        if (found === undefined) return;
        this.#watchers.delete(look);
        resolve(found.targetId);
      };
      this.#watchers.add(look);
      this.onExit(() => {
        this.#watchers.delete(look);
        reject(new Error('it has ended'));
      });
      look();
    });
  }

  #complain(text: string): void {
    this.#complaints = (this.#complaints + text).slice(-mostComplaints);
  }

  /** What it said last about its windows, or why there was no answer. */
  #reason(error: Error): string {
    const lines = this.#complaints
      .split('\n')
      .filter((line) => line.includes('ERROR') || line.includes('FATAL'));
    const line = lines.findLast((each) => /ozone|display|sandbox|profile|singleton|zygote/i.test(each));
    const said = line?.replace(/^\[[^\]]*\]\s*/, '').trim();
    return said ? `${said.replace(/\.$/, '')}.` : `${error.message}.`;
  }
}

function flagsOf({ profile, flags = [] }: ChromiumOptions): string[] {
  return chromiumFlags({ profile, isRoot: process.getuid?.() === 0, extra: flags });
}

/** Cookies and caches of the user's: nobody else reads them. */
function prepareProfile(profile: string): void {
  const preferences = join(profile, 'Default/Preferences');
  try {
    mkdirSync(join(profile, 'Default'), { recursive: true, mode: 0o700 });
    chmodSync(profile, 0o700);
    if (!existsSync(preferences))
      writeFileSync(preferences, JSON.stringify(firstPreferences), { mode: 0o600 });
  } catch (error) {
    throw new TorporError(
      'failed',
      `Chromium's profile ${profile} cannot be written (${(error as Error).message}).`,
      'Make room, or give the folder back to yourself.',
      {},
      { cause: error },
    );
  }
}

async function inTime<T>(answer: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not answer within ${limitMs / 1000} s`)), limitMs);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * `torpor ui`: starts the app, or hands over to the one that runs. The app is a program of its own that lives on after the
 * command; over a pipe it says when it is up, and what to tell the user.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, errorCodes, TorporError } from '../../api/errors.ts';
import type { Command } from '../context.ts';
import type { Invocation } from '../definition.ts';

const readyFd = 3;
const startLimitMs = 90_000;
const largestLogBytes = 1 << 20;

interface Answer {
  text: string;
  shell: string;
  address?: string;
}

type Message = { answer: Answer } | { error: { code: string; message: string; hint: string } };

export const ui: Command = {
  definition: {
    name: 'ui',
    summary: 'open the app: windows and tray',
    description: [
      'Opens the window that shows what runs and what is suspended, or brings it to the front where the app runs already. The app stays in the tray until it is ended from there or with --quit; applications do not end with it.',
      'The windows are shown by Electron where it is installed, otherwise by Chromium or Chrome. Without a display, or with --browser, an address is printed that opens them once in any browser on this machine.',
    ],
    arguments: [{ name: 'FILE', kind: 'file', optional: true, repeated: true }],
    options: [
      { name: 'open', summary: 'Open each FILE with its application, in a capsule.' },
      { name: 'tray', summary: 'Open no window; the app is in the tray only.' },
      { name: 'browser', summary: 'Print an address for a browser on this machine.' },
      { name: 'quit', summary: 'End the app. Applications run on.' },
      { name: 'foreground', summary: 'Do not return until the app has ended.' },
    ],
    examples: [
      { command: 'torpor ui', meaning: 'the window' },
      { command: 'torpor ui --open report.odt', meaning: 'a document, in its application, in a capsule' },
      { command: 'torpor ui --browser', meaning: 'an address for a browser, such as over ssh' },
    ],
  },
  async run({ invocation, result }) {
    const foreground = invocation.flag('foreground');
    const child = startApp(requestOf(invocation), foreground);
    const message = await readyMessage(child);
    if ('error' in message) {
      const { code, message: sentence, hint } = message.error;
      throw new TorporError(isErrorCode(code) ? code : 'failed', sentence, hint);
    }
    result(message.answer, message.answer.text);
    if (!foreground) {
      child.unref();
      return 0;
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => child.kill(signal));
    if (child.exitCode === null) await once(child, 'exit');
    return child.exitCode ?? 1;
  },
};

const isErrorCode = (code: string): code is ErrorCode => (errorCodes as readonly string[]).includes(code);

/** The app's own arguments. @throws TorporError where there is no such file */
function requestOf(invocation: Invocation): string[] {
  const files = invocation.arguments.map((file) => resolve(file));
  const missing = files.find((file) => !existsSync(file));
  if (missing !== undefined)
    throw new TorporError('not-found', `There is no file ${missing}.`, 'Check its name and folder.');
  const flags = ['tray', 'browser', 'quit'].filter((name) => invocation.flag(name));
  return [...flags.map((name) => `--${name}`), '--', ...files];
}

function startApp(request: readonly string[], foreground: boolean): ChildProcess {
  const [program, ...before] = appProgram(request.includes('--browser'));
  const log = foreground ? undefined : openLog();
  try {
    // This may be Electron's program that was told to be Node, which the app is not to be.
    const { ELECTRON_RUN_AS_NODE, ...own } = process.env;
    const asNode = program === process.execPath && ELECTRON_RUN_AS_NODE ? { ELECTRON_RUN_AS_NODE } : {};
    return spawn(program, [...before, ...request], {
      cwd: homedir(),
      detached: !foreground,
      stdio: ['ignore', log ?? 'inherit', log ?? 'inherit', 'pipe'],
      env: { ...own, ...asNode, TORPOR_READY_FD: String(readyFd) },
    });
  } finally {
    if (log !== undefined) closeSync(log);
  }
}

/** Electron with the app where both are there and there is a display to show it on; otherwise Node with the app. */
function appProgram(forBrowser: boolean): [string, ...string[]] {
  const here = dirname(fileURLToPath(import.meta.url));
  // Of a package, which has the app in it; or of a checkout.
  const packaged = join(here, '../../torpor-app');
  const electron = process.env.TORPOR_ELECTRON ?? join(here, '../node_modules/electron/dist/electron');
  const electronMain = join(here, 'electron/main.mjs');
  const asRoot = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  const hasDisplay = Boolean(process.env.WAYLAND_DISPLAY || process.env.DISPLAY);
  if (hasDisplay && !forBrowser) {
    if (existsSync(packaged)) return [packaged, ...asRoot];
    if (isAbsolute(electron) && existsSync(electron) && existsSync(electronMain))
      return [electron, ...asRoot, electronMain];
  }
  const app = join(here, 'torpor-app.mjs');
  if (!existsSync(app))
    throw new TorporError('failed', `The app is not built: ${app} is missing.`, 'Run `npm start` once.');
  return [process.execPath, app];
}

/** What the app says once nobody listens any more. */
function openLog(): number {
  const { XDG_STATE_HOME: state } = process.env;
  const folder = join(state && isAbsolute(state) ? state : join(homedir(), '.local/state'), 'torpor');
  const path = join(folder, 'app.log');
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const isLong = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > largestLogBytes;
    return openSync(path, isLong ? 'w' : 'a', 0o600);
  } catch (error) {
    throw new TorporError(
      'failed',
      `The app's log ${path} cannot be written (${(error as Error).message}).`,
      'Make room, or give the folder back to yourself.',
    );
  }
}

/** The first line that the app says over its pipe. @throws TorporError where it ends without one */
async function readyMessage(child: ChildProcess): Promise<Message> {
  const pipe = child.stdio[readyFd] as Readable;
  let text = '';
  const timer = setTimeout(() => pipe.destroy(), startLimitMs);
  let spawnError = '';
  child.once('error', (error) => {
    spawnError = error.message;
    pipe.destroy();
  });
  try {
    for await (const chunk of pipe.setEncoding('utf8')) {
      text += chunk;
      if (text.includes('\n')) return JSON.parse(text.split('\n')[0] ?? '') as Message;
    }
  } catch {
    // Destroyed by the time limit or by the error that is told below.
  } finally {
    clearTimeout(timer);
    pipe.destroy();
  }
  throw new TorporError(
    'failed',
    `The app did not start${spawnError && `: ${spawnError}`}.`,
    'Its log is ~/.local/state/torpor/app.log; `torpor ui --foreground` shows what it says.',
  );
}

/** The app from its start to its end, whatever shell it has: one instance, the desktop, the tray, what is asked for. */
import { existsSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { App } from './app.ts';
import { xdgFolders } from './desktop/folders.ts';
import { openDesktop, type UserDesktop } from './desktop/index.ts';
import { installEntries, setAutostart } from './desktop/integration.ts';
import { MemoryWatch } from './desktop/memory-watch.ts';
import { entryTexts } from './entry-texts.ts';
import { claimInstance } from './instance.ts';
import { type Answer, parseRequest, type Request } from './request.ts';
import type { Shell } from './shells/shell.ts';
import { AppTray } from './tray/app-tray.ts';

export interface RunningShell extends AsyncDisposable {
  shell: Shell;
  /**
   * A new address for a browser, and how to open it.
   * @param ssh `SSH_CONNECTION` of who asks
   * @throws TorporError where the shell has none
   */
  invite(ssh: string | undefined): Promise<{ address: string; text: string }>;
}

/** Makes the shell; everything of it ends with it. */
export type ShellMaker = (app: App, desktop: UserDesktop, request: Request) => Promise<RunningShell>;

/**
 * Runs until the user quits, or until it has handed over to one that runs already.
 * @returns the exit status
 */
export async function runApp(words: readonly string[], makeShell: ShellMaker): Promise<number> {
  try {
    const request = parseRequest(words);
    const claim = await claimInstance(request);
    if (claim.kind === 'handed-over') {
      report(claim.answer);
      return 0;
    }
    await using instance = claim.instance;
    if (request.quit) {
      report({ text: 'Torpor was not running.', shell: 'none' });
      return 0;
    }
    let end: (why: 'quit' | 'session-end') => void = () => {};
    const ended = new Promise<'quit' | 'session-end'>((resolve) => {
      end = resolve;
    });
    process.once('SIGINT', () => end('quit'));
    // Who ends a session sends one of these to everything that is left of it.
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.once(signal, () => end('session-end'));
    await using desktop = await openDesktop();
    await using app = await App.create(desktop);
    await using running = await makeShell(app, desktop, request);
    const { shell } = running;
    const quit = () => end('quit');
    showTray(app, shell, quit);
    await app.start(shell);
    integrate(desktop, shell);
    const answer = await serve(request, app, running);
    if (desktop.problem !== undefined) app.tell(desktop.problem);
    instance.handle(async (asked) => {
      if (!asked.quit) return serve(asked, app, running, 'Torpor runs already');
      setImmediate(quit);
      return { text: 'Torpor has been ended. Applications that it shows run on.', shell: shell.kind };
    });
    report(answer);
    using _watch = new MemoryWatch({
      leastPercent: () => desktop.settings.value.lowMemoryPercent,
      short: () => void app.memoryIsShort(),
    });
    const why = await ended;
    instance.retire();
    if (why === 'session-end') await app.sessionEnds();
    return 0;
  } catch (error) {
    fail(error);
    return error instanceof TorporError && error.code === 'usage' ? 2 : 1;
  }
}

function showTray(app: App, shell: Shell, quit: () => void): void {
  const tray = new AppTray(app, shell, quit);
  app.onState((state) => tray.show(state));
  tray.onShown((isShown) => {
    app.hasTray = isShown;
  });
}

/** Does what was asked for. @returns what to say to who has asked */
async function serve(
  { open, place, tray, browser, ssh }: Request,
  app: App,
  { shell, invite }: RunningShell,
  runs = 'Torpor runs',
): Promise<Answer> {
  if (open.length > 0) await app.openFiles(open);
  else if (!tray && (!browser || shell.kind === 'browser')) await app.show(place);
  if (browser || shell.kind === 'browser') {
    const { address, text } = await invite(ssh);
    return { text: `${runs}. ${text}`, shell: shell.kind, address };
  }
  if (open.length > 0) return { text: `${runs}: what was asked for is open.`, shell: shell.kind };
  if (tray) return { text: `${runs}: it is in the tray, if the desktop has one.`, shell: shell.kind };
  return { text: `${runs}: its window is in front.`, shell: shell.kind };
}

/** Has the user's desktop know of Torpor. It is a convenience: what fails is written to the log. */
function integrate(desktop: UserDesktop, shell: Shell): void {
  if (shell.kind === 'browser') return;
  const folders = xdgFolders();
  const command = commandPath();
  const logged = (what: string) => (error: unknown) => console.error(`torpor: ${what}: ${sentenceOf(error)}`);
  let startsAtLogin: boolean | undefined;
  const follow = () => {
    if (desktop.settings.value.startAtLogin === startsAtLogin) return;
    startsAtLogin = desktop.settings.value.startAtLogin;
    setAutostart(folders, command, startsAtLogin).catch(logged('the start at log-in was not set'));
  };
  desktop.settings.onChange(follow);
  follow();
  installEntries({
    folders,
    command,
    icon: readFileSync(resource('torpor.svg'), 'utf8'),
    texts: entryTexts,
  }).catch(logged('the menu entry was not written'));
}

const here = dirname(fileURLToPath(import.meta.url));

/** The `torpor` command: that of this installation. */
function commandPath(): string {
  const nearby = ['../bin/torpor', '../../bin/torpor'].map((path) => join(here, path));
  return nearby.find((path) => existsSync(path)) ?? '/usr/bin/torpor';
}

/** A file beside the bundle, or where the app is run from its sources, in its own folder. */
export function resource(name: string): string {
  const places = ['.', '..', 'assets'].map((folder) => join(here, folder, name));
  return places.find((path) => existsSync(path)) ?? join(here, name);
}

/** The renderer, as built. */
export function rendererFolder(): string {
  const places = ['renderer', '../renderer', '../build/renderer'].map((folder) => join(here, folder));
  return places.find((path) => existsSync(join(path, 'app.js'))) ?? join(here, 'renderer');
}

/** Tells whoever has started the app that it is up, by the pipe that `torpor ui` gives it; otherwise on standard output. */
function report(answer: Answer): void {
  if (process.env.TORPOR_READY_FD) tell({ answer });
  else console.log(answer.text);
}

function fail(error: unknown): void {
  const known = error instanceof TorporError ? error : undefined;
  if (known === undefined) console.error(error);
  const { code = 'failed', hint = '' } = known ?? {};
  if (process.env.TORPOR_READY_FD) tell({ error: { code, message: sentenceOf(error), hint } });
  console.error(`torpor: ${sentenceOf(error)}${hint && `\n  ${hint}`}`);
}

function tell(message: object): void {
  try {
    writeSync(Number(process.env.TORPOR_READY_FD), `${JSON.stringify(message)}\n`);
  } catch {
    // Nobody waits for it any more.
  }
}

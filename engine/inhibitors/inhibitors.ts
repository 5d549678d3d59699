/**
 * Inhibitors of the log-in manager (systemd-logind, elogind): a program asks it to keep the machine from sleeping, say, and
 * is given the writing end of a named pipe. As long as somebody has that open, the inhibitor is in force. So a suspend,
 * which ends the program, lets go of it by itself; the resume asks for another one in the same words, and has CRIU open
 * the pipe of that one, so that it is opened among the mounts where the program comes back.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { makePipe } from '../../native/pipe.ts';
import { takeDescriptor } from '../../native/take-descriptor.ts';
import { fileEntry, imageEntries } from '../../proto/images.ts';
import { type HeldInhibitor, heldInhibitorSchema, type Inhibitor } from '../../proto/manifest.ts';
import { decode } from '../../proto/wire.ts';
import type { InheritedFd } from '../criu/options.ts';
import { type RegFileChange, rewriteRegFiles } from '../files/rewrite.ts';
import type { ProcessFacts } from '../inspect/facts.ts';
import { inodeOf, statOf, textOf } from '../inspect/kernel-files.ts';
import { MomentaryError } from '../momentary.ts';

/** Of the pipe that stands for one. */
const place = /^\/run\/systemd\/inhibit\/[^/]+\.ref$/;

export const isInhibitor = (path: string) => place.test(path);

/**
 * What these processes hold, by the path of its pipe. The log-in manager tells on its bus who has asked, but not which
 * descriptor that one was given; the file that it keeps beside each pipe does. The format of that is its own affair: of what
 * is not understood nothing is said, and a job that holds it cannot be suspended.
 */
export function readInhibitors(processes: readonly ProcessFacts[]): Map<string, Inhibitor> {
  const held = new Map<string, Inhibitor>();
  for (const descriptor of processes.flatMap(({ descriptors }) => descriptors)) {
    const { target } = descriptor;
    if (descriptor.kind !== 'fifo' || !isInhibitor(target) || held.has(target)) continue;
    // A job may have something of its own there, where it has mounts of its own.
    const real = statOf(target);
    if (real === undefined || inodeOf(real).key !== descriptor.inode.key) continue;
    const inhibitor = parseInhibitor(textOf(target.replace(/\.ref$/, '')) ?? '', target);
    if (inhibitor !== undefined) held.set(target, inhibitor);
  }
  return held;
}

/** Pure. @returns undefined where it is not about this pipe, or not as it is known to be. */
export function parseInhibitor(text: string, path: string): Inhibitor | undefined {
  const fields = new Map(
    Array.from(text.matchAll(/^([A-Z]+)=(.*)$/gm), ([, key = '', value = '']) => [key, unescaped(value)]),
  );
  if (fields.get('FIFO') !== path) return undefined;
  const [what, who, why, mode] = ['WHAT', 'WHO', 'WHY', 'MODE'].map((key) => fields.get(key) ?? '');
  const parsed = heldInhibitorSchema.safeParse({ path, comm: '', what, who, why, mode });
  if (!parsed.success) return undefined;
  const { comm: _comm, path: _path, ...inhibitor } = parsed.data;
  return inhibitor;
}

const controls: Record<string, number> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11, s: 32 };

/** From the escapes of C, in which it has all bytes but plain ASCII. */
function unescaped(text: string): string {
  const bytes = Buffer.from(text)
    .toString('latin1')
    .replace(/\\([0-7]{3}|x[0-9a-fA-F]{2}|.)/g, (_all, code: string) => {
      if (/^[0-7]{3}$/.test(code)) return String.fromCharCode(Number.parseInt(code, 8) & 0xff);
      if (/^x../.test(code)) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      return String.fromCharCode(controls[code] ?? code.charCodeAt(0));
    });
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/**
 * What a suspend writes down of them: those of the inspection that it holds still.
 * @param imagesDir where CRIU's images are, by now.
 * @throws MomentaryError where it has taken another one since the inspection: its pipe goes with it, and without that there
 *   would be no resume.
 */
export async function heldInhibitors(
  name: string,
  processes: readonly ProcessFacts[],
  inhibitors: ReadonlyMap<string, Inhibitor>,
  imagesDir: string,
): Promise<HeldInhibitor[]> {
  const held = inhibitorsIn(await readFile(join(imagesDir, 'files.img')));
  if ([...held].some((path) => !inhibitors.has(path)))
    throw new MomentaryError(
      `${name} cannot be suspended now: it has just begun to keep the machine from sleeping or being shut down.`,
    );
  const still = [...inhibitors].filter(([path]) => held.has(path));
  return still.map(([path, inhibitor]) => {
    const holder = processes.find(({ descriptors }) => descriptors.some(({ target }) => target === path));
    return { path, comm: holder?.name ?? 'a process', ...inhibitor };
  });
}

const kept: Record<string, string> = {
  shutdown: 'being shut down',
  sleep: 'going to sleep',
  idle: 'counting as idle',
  'handle-power-key': 'heeding its power key',
  'handle-suspend-key': 'heeding its sleep key',
  'handle-hibernate-key': 'heeding its hibernation key',
  'handle-lid-switch': 'heeding its lid',
  'handle-reboot-key': 'heeding its reboot key',
};
const longestReason = 80;

/** As in "keeps the machine from ...". */
export function inWords({ what, why }: Inhibitor): string {
  const words = what.split(':').map((each) => kept[each] ?? each);
  const reason = why
    .replaceAll(/\p{Cc}+/gu, ' ')
    .slice(0, longestReason)
    .trim();
  return words.join(' and ') + (reason === '' ? '' : ` ("${reason}")`);
}

/** Those of a snapshot, asked for anew; kept until CRIU has them. */
export interface TakenInhibitors extends Disposable {
  /** For CRIU, in place of those that are not to be had. */
  readonly inherited: readonly InheritedFd[];
  readonly findings: readonly Finding[];
}

/**
 * Asks the log-in manager, as root: it was the user's program that was granted each, and no log-in of the user's is around
 * the engine by which they could be granted it again.
 * @param held as a manifest has them, which root alone has written.
 * @param rewritten images that CRIU shall read in place of those in the folder, by name.
 * @param signal ends the waiting. @throws its reason then.
 */
export async function takeInhibitors(
  held: readonly HeldInhibitor[] | undefined,
  imagesDir: string,
  rewritten: Map<string, Buffer>,
  signal: AbortSignal,
): Promise<TakenInhibitors> {
  const findings: Finding[] = [];
  const fds: number[] = [];
  const inherited: InheritedFd[] = [];
  const places = new Map<string, string>();
  const letGo = () => {
    for (const fd of fds.splice(0)) closeSync(fd);
  };
  try {
    for (const inhibitor of held ?? []) {
      const asked = await ask(inhibitor, signal).catch((error: unknown) => {
        signal.throwIfAborted();
        findings.push(notTaken(inhibitor, sentenceOf(error).replace(/\.$/, '')));
        return undefined;
      });
      if (asked !== undefined) {
        fds.push(asked.fd);
        places.set(inhibitor.path, asked.path);
        findings.push(takenAsRoot(inhibitor));
      } else {
        const fd = deadEnd();
        fds.push(fd);
        // CRIU has paths from the root on.
        inherited.push({ key: inhibitor.path.slice(1), fd });
      }
    }
    if (places.size > 0) {
      const image = rewritten.get('files.img') ?? (await readFile(join(imagesDir, 'files.img')));
      rewritten.set('files.img', placed(image, places));
    }
  } catch (error) {
    letGo();
    throw error;
  }
  return { inherited, findings, [Symbol.dispose]: letGo };
}

/** Paths of their pipes in `files.img`. Pure. */
function inhibitorsIn(image: Buffer): Set<string> {
  const paths = [...imageEntries('files', image)].flatMap((entry) => {
    const path = decode(fileEntry, entry).reg?.name.toString();
    return path !== undefined && isInhibitor(path) ? [path] : [];
  });
  return new Set(paths);
}

/** `files.img` with these pipes at other places. Pure. */
function placed(image: Buffer, places: ReadonlyMap<string, string>): Buffer {
  const changes = new Map<number, RegFileChange>();
  for (const entry of imageEntries('files', image)) {
    const { reg } = decode(fileEntry, entry);
    const path = reg && places.get(reg.name.toString());
    if (reg !== undefined && path !== undefined) changes.set(reg.id, { forgetMode: true, movedTo: { path } });
  }
  return rewriteRegFiles(image, changes);
}

/** The log-in manager lets users overrule their own inhibitors, and not root's. */
const takenAsRoot = (inhibitor: HeldInhibitor): Finding => ({
  tie: 'inhibitor',
  verdict: 'degraded',
  by: 'engine',
  what: `${inhibitor.comm} keeps the machine from ${inWords(inhibitor)} again, now in root's name.`,
  hint: 'To have it sleep or shut down nevertheless, suspend or end the application first.',
});

const notTaken = (inhibitor: HeldInhibitor, why: string): Finding => ({
  tie: 'inhibitor',
  verdict: 'degraded',
  by: 'engine',
  what: `${inhibitor.comm} does not keep the machine from ${inWords(inhibitor)} any more: ${why}.`,
  hint: 'It is not told; start it again where that matters.',
});

/** Something to hold for who holds an inhibitor; at the old place there may be somebody else's by now. */
function deadEnd(): number {
  const { read, write } = makePipe(Buffer.alloc(0), undefined);
  closeSync(read);
  return write;
}

/** The command of each log-in manager that asks it and holds what it gets for as long as a program runs. */
const askers: readonly string[] = ['systemd-inhibit', 'elogind-inhibit'];
const askingLimitMs = 15_000;
const longestComplaint = 4096;

/** One that has been granted: a descriptor of ours, and the path of its pipe. */
export interface Granted {
  fd: number;
  path: string;
}

/** In the engine's own name. It lasts until the descriptor is closed. @throws TorporError `failed` */
export async function ask(inhibitor: Inhibitor, signal: AbortSignal): Promise<Granted> {
  for (const program of askers) {
    const granted = await askBy(program, inhibitor, signal);
    if (granted !== undefined) return granted;
  }
  throw new TorporError('failed', `There is neither ${askers.join(' nor ')}.`);
}

/** @returns undefined where there is no such program. */
async function askBy(
  program: string,
  { what, who, why, mode }: Inhibitor,
  signal: AbortSignal,
): Promise<Granted | undefined> {
  const words = [`--what=${what}`, `--who=${who}`, `--why=${why}`, `--mode=${mode}`];
  // What it runs begins once it has the inhibitor, and says so by giving back what it is given.
  const child = spawn(program, [...words, 'cat'], { stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
  const kill = () => child.kill('SIGKILL');
  const limit = setTimeout(kill, askingLimitMs);
  signal.addEventListener('abort', kill, { once: true });
  try {
    return (await isHeld(child)) ? await takeFrom(child.pid ?? 0) : undefined;
  } finally {
    clearTimeout(limit);
    signal.removeEventListener('abort', kill);
    // Both end by that.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  }
}

/** @returns false where there is no such program. @throws TorporError `failed` where it ends without. */
async function isHeld(child: ChildProcess): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    let complaint = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-longestComplaint);
    });
    child.stdin?.on('error', () => {});
    child.stdin?.write('held\n');
    child.stdout?.once('data', () => resolve(true));
    child.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ENOENT' ? resolve(false) : reject(error),
    );
    child.once('close', () => {
      const said = complaint.trim().split('\n').at(-1);
      reject(new TorporError('failed', said || 'The log-in manager did not answer.'));
    });
  });
}

async function takeFrom(pid: number): Promise<Granted> {
  const folder = `/proc/${pid}/fd`;
  for (const number of await readdir(folder)) {
    const path = await readlink(`${folder}/${number}`).catch(() => '');
    if (isInhibitor(path)) return { path, fd: takeDescriptor(pid, Number(number)) };
  }
  throw new TorporError('failed', 'The log-in manager has given nothing to hold.');
}

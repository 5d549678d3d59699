/**
 * Whether a program runs a second time: many of them have one instance a user, and a second one shows the first one's
 * window, or a question, and is not what somebody wants to start with.
 */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { readProcessLine } from '../inspect/proc.ts';

const interpreters = /^(?:python|perl|ruby|node|bash|dash|sh|gjs|java|mono|wish|lua|guile|qemu)[\w.-]*$/;

/** What it is that runs: the file, and of interpreters what they run. */
async function programOf(pid: number | string): Promise<string | undefined> {
  const file = await readlink(`/proc/${pid}/exe`).catch(() => undefined);
  if (file === undefined || !interpreters.test(basename(file))) return file;
  const [, ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
  return [file, args.find((each) => !each.startsWith('-'))].join(' ');
}

/** What a capsule has beside the application, as the kernel names it; with them goes what the bus has started. */
const ofCapsule = new Set(['Xvnc', 'openbox', 'dbus-daemon', 'torpor-sound']);

/**
 * A program of the same user that runs in this capsule, as a part of its application, and outside of it too.
 * @param init of the capsule; @param pids all of it, as the host counts.
 */
export async function runningTwice(
  init: number,
  pids: readonly number[],
  uid: number,
): Promise<string | undefined> {
  const parents = new Map(await Promise.all(pids.map(async (pid) => [pid, await parentOf(pid)] as const)));
  const names = new Map(await Promise.all(pids.map(async (pid) => [pid, await programOf(pid)] as const)));
  const isApplication = (pid: number | undefined): boolean => {
    if (pid === undefined || !parents.has(pid)) return false;
    if (pid === init) return true;
    return !ofCapsule.has(readProcessLine(pid)?.name ?? '') && isApplication(parents.get(pid));
  };
  const mine = new Set(pids.filter((pid) => pid !== init && isApplication(pid)).map((pid) => names.get(pid)));
  const others = (await readdir('/proc')).filter(
    (name) => /^\d+$/.test(name) && !parents.has(Number(name)) && mine.size > 0,
  );
  const found = await Promise.all(
    others.map(async (pid) => ((await ownerOf(pid)) === uid ? await programOf(pid) : undefined)),
  );
  return found.find((each) => each !== undefined && mine.has(each));
}

const parentOf = async (pid: number) => readProcessLine(pid)?.ppid;
const ownerOf = async (pid: string) => (await stat(`/proc/${pid}`).catch(() => undefined))?.uid;

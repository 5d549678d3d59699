/**
 * What a checkpoint of a stranger may have in it: nothing but what the importing user could have started themselves.
 * CRIU does as root whatever its images say, so everything that is not known to be harmless refuses the whole bundle
 * (docs/decisions/0025-strangers-images.md says why for each image).
 */
import { readdir, readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import {
  coreEntry,
  fdinfoEntry,
  fileLockEntry,
  fileTypes,
  type ImageKind,
  imageEntries,
  mountEntry,
  readImage,
} from '../../../proto/images.ts';
import { type Manifest, specOf } from '../../../proto/manifest.ts';
import { decode, message, optional, WireError } from '../../../proto/wire.ts';
import {
  type Credentials,
  type Images,
  type ProcessImage,
  type RegFileImage,
  readImages,
} from '../../criu/images.ts';
import { limitsEntry } from './limits.ts';
import { refused } from './refusal.ts';

/** Names of images that a checkpoint of Torpor's has, and that do nothing but what is looked at here. */
const known = [
  /^(?:core|mm|fs|ids|fdinfo|pagemap|posix-timers)-\d+\.img$/,
  /^pagemap-shmem-\d+\.img$/,
  /^(?:inventory|pstree|files|filelocks|cgroup|seccomp|tty-info|tty-data|pipes-data|fifo-data|remap-fpath|memfd|sk-queues)\.img$/,
  /^(?:mountpoints|utsns|timens)-\d+\.img$/,
  /^ipcns-(?:var|shm)-\d+\.img$/,
  /^tmpfs-(?:dev-)?\d+\.tar\.gz\.img$/,
  /^ghost-file-[0-9a-f]+\.img$/,
  /^(?:stats-dump|stats-restore)$/,
];

/** Kinds of open files that any program may have. */
const ordinary = new Set<string>([
  ...['file', 'pipe', 'fifo', 'inet-socket', 'unix-socket', 'eventfd', 'eventpoll', 'inotify', 'signalfd'],
  ...['terminal', 'netlink-socket', 'timerfd', 'memfd', 'pidfd'],
]);

/** fstype of images/mnt.proto: what native/root.c mounts, and the root, whatever it is on. */
const ownMounts: Readonly<Record<string, number>> = {
  '/proc': 1,
  '/sys': 2,
  '/dev': 5,
  '/dev/pts': 6,
  '/dev/shm': 5,
  '/tmp': 5,
  '/run': 5,
};
const runMount = '/run/torpor';
const runKey = 'torpor';
const devices = /^\/dev\/(?:null|zero|full|random|urandom|tty|ptmx|pts\/(?:\d+|ptmx))$/;
const typeBits = 0o170000;
const [characterDevice, blockDevice, regularFile] = [0o020000, 0o060000, 0o100000];
const setIdBits = 0o6000;

/** Scheduling and the order in which the kernel ends processes, as an ordinary program has them. */
const threadEntry = message('core_entry', {
  task: optional(
    3,
    message('task_core_entry', { limits: optional(8, limitsEntry), oomScoreAdjust: optional(14, 'int32') }),
  ),
  thread: optional(
    5,
    message('thread_core_entry', { nice: optional(3, 'sint32'), policy: optional(4, 'uint32') }),
  ),
});
/** FL_POSIX, FL_FLOCK and FL_OFD of CRIU's file-lock.h: no leases. F_RDLCK and F_WRLCK of fcntl(2). */
const ordinaryLocks = new Set([1, 2, 4]);
const lockTypes = new Set([0, 1]);
/** SCHED_OTHER, SCHED_BATCH and SCHED_IDLE of sched(7). */
const ordinaryPolicies = new Set([0, 3, 5]);
/** SCHED_RESET_ON_FORK, which only takes from what is started later. */
const resetOnFork = 0x40000000;

/**
 * @param folder CRIU's images.
 * @throws TorporError `blocked`, naming process or file and the reason; `failed` where an image is damaged.
 */
export async function checkImages(folder: string, manifest: Manifest): Promise<void> {
  try {
    const names = await readdir(folder);
    for (const name of names)
      if (!known.some((each) => each.test(name))) throw refused(`it has an image ${JSON.stringify(name)}`);
    const images = await readImages(folder);
    for (const each of images.processes) checkProcess(each, manifest);
    for (const name of names.filter((each) => /^core-\d+\.img$/.test(each)))
      await checkCore(join(folder, name), name, images.processes);
    for (const name of names.filter((each) => /^fdinfo-\d+\.img$/.test(each)))
      await checkDescriptors(join(folder, name));
    if (names.includes('filelocks.img')) await checkLocks(join(folder, 'filelocks.img'), images.processes);
    for (const file of images.regFiles) checkFile(file);
    for (const socket of images.unixSockets) {
      const { name, folder: from } = socket;
      const paths = [name.kind === 'path' ? name.path : '', from ?? ''];
      const outside = paths.find(leadsElsewhere);
      if (outside !== undefined) throw refused(`it has a socket at ${JSON.stringify(outside)}`);
    }
    await checkMounts(folder, names, images, manifest);
  } catch (error) {
    if (error instanceof WireError) throw refused(`an image of it is damaged: ${error.message}`);
    throw error;
  }
}

const leadsElsewhere = (path: string) => path.split('/').includes('..');

const named = ({ comm, pid }: Pick<ProcessImage, 'comm' | 'pid'>) => `its process ${comm} (pid ${pid})`;

function checkProcess(each: ProcessImage, manifest: Manifest): void {
  if (each.kind === 'ended') return;
  // Torpor's own, and root at home: it gets the user's identity whatever it had (map-identity.ts).
  const isInit = manifest.kind === 'capsule' && each.pid === 1;
  for (const { credentials, seccomp } of each.threads) {
    const wrong = wrongCredentials(credentials, manifest, isInit);
    if (wrong !== undefined) throw refused(`${named(each)} ${wrong}`);
    if (seccomp === 'strict' || seccomp === 'unknown')
      throw refused(`${named(each)} has a system call filter of an unknown kind`);
  }
  for (const { kind } of each.descriptors)
    if (!ordinary.has(kind)) throw refused(`${named(each)} has something open of the kind ${kind}`);
}

/** Why these can be none that the user could give a program; undefined where they can. */
function wrongCredentials(credentials: Credentials, manifest: Manifest, isInit: boolean): string | undefined {
  const { user } = specOf(manifest);
  const { uid, euid, suid, fsuid, gid, egid, sgid, fsgid, groups } = credentials;
  const isRootInit = isInit && [uid, euid, suid, fsuid].every((each) => each === 0);
  const foreignUser = [uid, euid, suid, fsuid].find((each) => each !== user.uid);
  if (foreignUser !== undefined && !isRootInit) return `runs as the user ${foreignUser}, and not as its own`;
  const ownGroups = new Set([user.gid, ...user.groups]);
  const foreignGroup = [gid, egid, sgid, fsgid, ...groups].find((each) => !ownGroups.has(each));
  if (foreignGroup !== undefined && !isRootInit) return `is in the group ${foreignGroup}`;
  const { inheritable, permitted, effective, ambient, securebits, noNewPrivs } = credentials;
  if (isRootInit) return undefined;
  if ((inheritable | permitted | effective | ambient) !== 0n) return 'has capabilities';
  if (securebits !== 0) return 'has secure bits set';
  if (manifest.kind === 'capsule' && !noNewPrivs && !isInit)
    return 'may gain privileges (no_new_privs is not set)';
  return undefined;
}

async function checkCore(path: string, name: string, processes: readonly ProcessImage[]): Promise<void> {
  const image = await readFile(path);
  const pid = Number(/\d+/.exec(name)?.[0]);
  const owner = processes.find(
    (each) => each.pid === pid || (each.kind === 'alive' && each.threads.some(({ tid }) => tid === pid)),
  );
  if (owner === undefined) throw refused(`its image ${name} belongs to no process`);
  const [core] = readImage('core', coreEntry, image);
  for (const entry of imageEntries('core', image)) {
    const { task, thread } = decode(threadEntry, entry);
    if (!ordinaryPolicies.has((thread?.policy ?? 0) & ~resetOnFork))
      throw refused(`${named(owner)} runs in real time`);
    if ((thread?.nice ?? 0) < 0) throw refused(`${named(owner)} comes before all others (nice)`);
    if ((task?.oomScoreAdjust ?? 0) < 0)
      throw refused(`${named(owner)} is kept when memory runs out (oom_score_adj)`);
  }
  for (const [what, id] of [
    ['user', core?.ids?.userNsId],
    ['cgroup', core?.ids?.cgroupNsId],
  ] as const) {
    const first = processes[0];
    if (id !== undefined && first !== undefined && owner.pid !== first.pid) {
      const same = await namespaceOf(path, first.pid, what);
      if (same !== undefined && same !== id)
        throw refused(`${named(owner)} has a ${what} namespace of its own`);
    }
  }
}

async function namespaceOf(core: string, pid: number, what: 'user' | 'cgroup'): Promise<number | undefined> {
  const image = await readFile(posix.join(posix.dirname(core), `core-${pid}.img`));
  const ids = readImage('core', coreEntry, image)[0]?.ids;
  return what === 'user' ? ids?.userNsId : ids?.cgroupNsId;
}

async function checkDescriptors(path: string): Promise<void> {
  const kind: ImageKind = 'fdinfo';
  for (const { type } of readImage(kind, fdinfoEntry, await readFile(path))) {
    const name = fileTypes[type];
    if (name === undefined || !ordinary.has(name))
      throw refused(`something is open in it of the kind ${name ?? type}`);
  }
}

/** CRIU takes each by the descriptor that it names, whatever that is by then. */
async function checkLocks(path: string, processes: readonly ProcessImage[]): Promise<void> {
  for (const { flag, type, pid, fd } of readImage('fileLocks', fileLockEntry, await readFile(path))) {
    const owner = processes.find((each) => each.pid === pid);
    if (owner?.kind !== 'alive' || !owner.descriptors.some((each) => each.fd === fd))
      throw refused(`it has a lock on something that no process has open (${pid}, ${fd})`);
    if (!ordinaryLocks.has(flag) || !lockTypes.has(type))
      throw refused(`${named(owner)} has a lock of an unknown kind`);
  }
}

function checkFile({ path, mode, isExternal, isExecutable, isMappedExecutable }: RegFileImage): void {
  const shown = JSON.stringify(path);
  if (isExternal) throw refused(`its file ${shown} comes from outside`);
  if (leadsElsewhere(path)) throw refused(`its file ${shown} has a path that leads elsewhere`);
  if (mode === undefined) return;
  const type = mode & typeBits;
  const absolute = posix.resolve('/', path);
  if (
    (type === characterDevice || type === blockDevice) &&
    !(type === characterDevice && devices.test(absolute))
  )
    throw refused(`it has the device ${shown} open`);
  if ((isExecutable || isMappedExecutable) && type === regularFile && (mode & setIdBits) !== 0)
    throw refused(`its program ${shown} has a set-user-id or set-group-id bit`);
}

async function checkMounts(
  folder: string,
  names: readonly string[],
  { processes }: Images,
  manifest: Manifest,
): Promise<void> {
  const lists = names.filter((name) => /^mountpoints-/.test(name));
  if (manifest.kind === 'job') {
    if (lists.length > 0) throw refused('it is a job, and has mounts of its own');
    return;
  }
  if (lists.length !== 1 || processes.length === 0) throw refused(`it has ${lists.length} lists of mounts`);
  const wanted = new Map(manifest.capsule.hostMounts.map(({ key, path }) => [path, key]));
  for (const entry of readImage('mountpoints', mountEntry, await readFile(join(folder, lists[0] ?? '')))) {
    const at = posix.resolve('/', entry.mountPoint);
    const shown = JSON.stringify(entry.mountPoint);
    if (leadsElsewhere(entry.mountPoint) || leadsElsewhere(entry.root))
      throw refused(`its mount at ${shown} leads elsewhere`);
    const key = at === runMount ? runKey : wanted.get(at);
    if (at === '/') continue;
    if (key !== undefined) {
      if (entry.extKey !== key)
        throw refused(`its mount at ${shown} is taken from ${JSON.stringify(entry.extKey)}`);
      continue;
    }
    if (entry.extKey !== undefined && entry.extKey !== '')
      throw refused(`its mount at ${shown} names a folder of the machine, ${JSON.stringify(entry.extKey)}`);
    if (ownMounts[at] === undefined || ownMounts[at] !== entry.fstype)
      throw refused(`it has a mount at ${shown} that no capsule has`);
  }
}

/**
 * A real process tree to checkpoint: a counter with a child, in pid, mount, ipc and uts namespaces of its own, with a
 * private /proc and no descriptor from outside. It counts into a file, so that a gap or a restart would show.
 */
import { spawn } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { CriuClient, type CriuClientOptions } from '../../engine/criu/client.ts';
import type { DumpOptions, RestoreOptions } from '../../engine/criu/options.ts';
import { findInstallation } from '../../engine/installation.ts';
import { identify, isAlive, type ProcessIdentity, signalProcess } from '../../engine/process.ts';

const installation = findInstallation();
/** CRIU needs root and is not there before the set-up has run. */
export const canCheckpoint = existsSync(installation.criu) && process.getuid?.() === 0;

export function makeClient(more: Partial<CriuClientOptions> = {}): CriuClient {
  return new CriuClient({
    criuPath: installation.criu,
    rlimitPreload: installation.rlimitPreload,
    restorePreload: installation.restorePreload,
    pluginFolder: installation.criuPlugins,
    tracer: installation.tracer,
    logger: pino({ level: 'silent' }),
    ...more,
  });
}

/**
 * Makes the root the way capsules have it: a non-recursive bind, with a /proc and a /dev of its own; then counts, with a
 * deleted file and a listening socket open.
 */
const program = `
set -e
mount --make-rprivate /
mount --bind / "$3"
cd "$3"
mount -t proc proc proc
mount -t tmpfs dev dev
mknod -m 666 dev/null c 1 3
pivot_root . "$3/mnt"
umount -l /mnt
cd /
exec </dev/null >/dev/null 2>&1
setpriv --groups 27,100 --no-new-privs sleep 100000 &
[ -z "$5" ] || exec setpriv --reuid "$4" "$5" "$1"
exec setpriv --reuid "$4" perl -e '
  use IO::Handle;
  open(my $f, "+>", $ARGV[0]) or die; $f->autoflush(1);
  open(my $gone, "+>", "$ARGV[0].gone"); print $gone "ghost"; unlink "$ARGV[0].gone";
  use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un("$ARGV[0].socket")); listen($s, 1);
  my $memory = "torpor" x ($ARGV[1] * 174763);
  for (my $n = 1; ; $n++) { seek($f, 0, 0); printf $f "%09d\\n", $n; select(undef, undef, undef, 0.01); }
' "$1" "$2"
`;

/** A test runner leaves descriptors of its own open on exec. */
const closeAll = 'use POSIX; POSIX::close($_) for 3..1023; exec @ARGV';

export class Counter implements AsyncDisposable {
  readonly folder: string;
  readonly imagesDir: string;
  root: ProcessIdentity;

  private constructor(folder: string, root: ProcessIdentity) {
    this.folder = folder;
    this.imagesDir = join(folder, 'images');
    this.root = root;
  }

  /**
   * @param megabytes of memory it holds, to make a dump take a while.
   * @param uid whose it is; its child stays root's.
   * @param executable what counts instead: is given the file, into which it writes numbers, the first of which rises.
   */
  static async start(megabytes = 1, uid = 0, executable = ''): Promise<Counter> {
    const folder = mkdtempSync(join(tmpdir(), 'torpor-criu-'));
    mkdirSync(join(folder, 'images'));
    mkdirSync(join(folder, 'root'));
    const counting = join(folder, 'count file');
    writeFileSync(counting, '');
    chownSync(folder, uid, uid);
    chownSync(counting, uid, uid);
    const unshare = spawn(
      'perl',
      [
        '-e',
        closeAll,
        'unshare',
        '-m',
        '-i',
        '-u',
        '-p',
        '-f',
        'setsid',
        'sh',
        '-c',
        program,
        'sh',
        counting,
        String(megabytes),
        join(folder, 'root'),
        String(uid),
        executable,
      ],
      { stdio: 'ignore', detached: true },
    );
    unshare.unref();
    for (let round = 0; round < 500; round++) {
      const root = await findRoot(unshare.pid ?? -1, executable || 'perl');
      if (root !== undefined && readFileSync(counting, 'utf8') !== '') return new Counter(folder, root);
      await sleep(10);
    }
    throw new Error('the counter did not start');
  }

  /** For a client that restores it: a root folder that is a mount point, seen by CRIU alone. */
  get spawnPrefix(): string[] {
    return ['unshare', '-m', 'sh', '-c', 'mount --bind / "$0" && exec "$@"', join(this.folder, 'root')];
  }

  get rootFolder(): string {
    return join(this.folder, 'root');
  }

  /** Restores it from its images; it goes on under this object's name. */
  async restore(
    client: CriuClient,
    handlers?: Parameters<CriuClient['restore']>[1],
    more?: Partial<RestoreOptions>,
  ): Promise<void> {
    const folders = { imagesDir: this.imagesDir, root: this.rootFolder };
    const { pid } = await client
      .withPrefix(this.spawnPrefix)
      .restore({ ...folders, logFile: 'restore.log', ...more }, handlers);
    const root = await identify(pid);
    if (root === undefined) throw new Error('the restored counter is not there');
    this.root = root;
  }

  async dump(client: CriuClient, handlers?: Parameters<CriuClient['dump']>[1], more?: Partial<DumpOptions>) {
    const { imagesDir } = this;
    await client.dump({ pid: this.root.pid, imagesDir, logFile: 'dump.log', ...more }, handlers);
  }

  /** What it has written last. */
  numbers(): number[] {
    return readFileSync(join(this.folder, 'count file'), 'utf8').trim().split(' ').map(Number);
  }

  count(): number {
    return this.numbers()[0] ?? 0;
  }

  isAlive(): Promise<boolean> {
    return isAlive(this.root);
  }

  /** Whether it counts on, from where it was. */
  async counts(): Promise<boolean> {
    const before = this.count();
    for (let round = 0; round < 300; round++) {
      await sleep(10);
      if (this.count() > before) return true;
    }
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await signalProcess(this.root, 'SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The pid 1 of the new namespace, once it is what it will be: the counter. */
async function findRoot(parent: number, program: string): Promise<ProcessIdentity | undefined> {
  try {
    const [child] = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim().split(' ');
    if (!child || !readFileSync(`/proc/${child}/cmdline`, 'utf8').startsWith(program)) return undefined;
    return await identify(Number(child));
  } catch {
    return undefined;
  }
}

/** A cgroup with a process tree in it, where the machine has version 2 and lets us. */
export class TestCgroup implements AsyncDisposable {
  readonly path: string | undefined;

  constructor(pid: number) {
    const mount = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((line) => / - cgroup2 /.test(line))
      ?.split(' ')[4];
    if (mount === undefined) return;
    const path = join(mount, `torpor-test-criu-${process.pid}-${pid}`);
    mkdirSync(path);
    for (const one of [pid, ...childrenOf(pid)]) {
      writeFileSync(join(path, 'cgroup.procs'), String(one));
    }
    this.path = path;
  }

  thaw(): void {
    if (this.path !== undefined) writeFileSync(join(this.path, 'cgroup.freeze'), '0');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.path === undefined) return;
    this.thaw();
    writeFileSync(join(this.path, 'cgroup.kill'), '1');
    for (let round = 0; round < 200; round++) {
      try {
        rmdirSync(this.path);
        return;
      } catch {
        await sleep(10);
      }
    }
  }
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

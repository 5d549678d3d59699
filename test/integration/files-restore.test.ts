/** A checkpoint whose files have changed, prepared as a resume does it and restored by the real CRIU. */
import { spawn } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readdir, readlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { external } from '../../engine/criu/options.ts';
import { FileHashes } from '../../engine/files/hashes.ts';
import { type FileRecord, keepVolatile, recordFiles } from '../../engine/files/record.ts';
import { identify, type ProcessIdentity, signalProcess } from '../../engine/process.ts';
import { type Prepared, prepareSurroundings } from '../../engine/transaction/surroundings.ts';
import type { Manifest } from '../../proto/manifest.ts';
import { canCheckpoint, makeClient } from './criu-fixture.ts';

/** A root as capsules have it, with the run folder at /run/torpor. */
const script = `
set -e
mount --make-rprivate /
mount --bind / "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t tmpfs dev dev
mknod -m 666 dev/null c 1 3
mount -t tmpfs run run
mkdir run/torpor
mount --bind "$1/run" run/torpor
pivot_root . "$1/root/mnt"
umount -l /mnt
cd /
exec </dev/null >/dev/null 2>&1
exec python3 -c "$2" "$1"
`;

/** Says again and again what it sees of its files. */
const program = `
import sys, mmap, os, time
folder = sys.argv[1]
log = open(folder + "/log", "a")
document = open(folder + "/document")
scratch = open(folder + "/scratch", "w+")
closed = open(folder + "/closed")
f = open(folder + "/settings", "rb")
settings = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
f.close()
n = 0
while True:
    n += 1
    document.seek(0)
    with open("/run/torpor/seen.new", "w") as seen:
        print(n, settings[:].decode(), document.read(), sep="|", file=seen)
    os.rename("/run/torpor/seen.new", "/run/torpor/seen")
    if os.path.exists("/run/torpor/write"):
        log.write("more\\\\n"); log.flush()
        os.remove("/run/torpor/write")
    time.sleep(0.01)
    if os.path.exists("/run/torpor/hold"):
        os.symlink("hold", "/run/torpor/held")
        while os.path.exists("/run/torpor/hold"):
            time.sleep(0.01)
`.replaceAll('\\\\', '\\');

const closeAll = 'use POSIX; POSIX::close($_) for 3..1023; exec @ARGV';

class Application implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'torpor-files-'));
  readonly view = { root: '/', runFolder: join(this.folder, 'run') };
  /** Of the snapshot in the making. */
  snapshot = join(this.folder, 'snapshot');
  root: ProcessIdentity | undefined;
  user = { uid: 0, gid: 0, groups: [], name: 'root', home: '/root', shell: '/bin/sh' };
  records: FileRecord[] = [];

  at(name: string): string {
    return join(this.folder, name);
  }

  async start(): Promise<void> {
    for (const name of ['root', 'run', 'snapshot', 'snapshot/images']) mkdirSync(this.at(name));
    for (const name of ['log', 'document', 'settings', 'closed']) writeFileSync(this.at(name), name);
    const unshare = ['unshare', '-m', '-i', '-u', '-p', '-f', 'setsid'];
    const args = ['-e', closeAll, ...unshare, 'sh', '-c', script, 'sh', this.folder, program];
    const child = spawn('perl', args, { stdio: 'ignore', detached: true });
    child.unref();
    await this.sees('settings', 'document');
    const [pid] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').split(' ');
    this.root = await identify(Number(pid));
  }

  /** Waits until it says so. */
  async sees(settings: string, document: string): Promise<void> {
    const expected = `${settings}|${document}`;
    let seen = '';
    for (let round = 0; round < 300; round++) {
      await sleep(10);
      if (!existsSync(this.at('run/seen'))) continue;
      seen = readFileSync(this.at('run/seen'), 'utf8')
        .trim()
        .replace(/^\d+\|/, '');
      if (seen === expected) return;
    }
    expect(seen).toBe(expected);
  }

  get pid(): number {
    if (this.root === undefined) throw new Error('the application does not run');
    return this.root.pid;
  }

  async suspend(): Promise<void> {
    const { pid } = this;
    // Not while it has open what it tells by, which goes with the run folder.
    writeFileSync(this.at('run/hold'), '');
    await vi.waitFor(() => expect(existsSync(this.at('run/held'))).toBe(true), { timeout: 5000 });
    await makeClient().dump(
      {
        pid,
        imagesDir: join(this.snapshot, 'images'),
        logFile: 'dump.log',
        external: [external.mountAtDump('/run/torpor', 'torpor')],
      },
      {
        onNotify: {
          'post-dump': async () => {
            this.records = await recordFiles([pid], this.view, new FileHashes());
            await keepVolatile(this.records, this.view, this.snapshot);
          },
        },
      },
    );
    rmSync(this.at('run'), { recursive: true });
  }

  async prepare(): Promise<Prepared> {
    mkdirSync(this.at('run'), { recursive: true });
    const manifest = {
      name: 'python',
      kind: 'capsule',
      capsule: { root: '/', user: this.user },
      surroundings: this.records,
      files: [],
    };
    const images = join(this.snapshot, 'images');
    const runFolder = this.at('run');
    const place = { runFolder, view: { root: '/', runFolder } };
    return prepareSurroundings(manifest as unknown as Manifest, images, place, this.snapshot, {
      pathFor: async () => undefined,
    });
  }

  async restore({ rewritten }: Prepared): Promise<void> {
    const images = join(this.snapshot, 'images');
    const view = this.at(`view-${Date.now()}`);
    mkdirSync(view);
    for (const name of await readdir(images)) {
      const bytes = rewritten.get(name);
      if (bytes === undefined) symlinkSync(join(images, name), join(view, name));
      else writeFileSync(join(view, name), bytes);
    }
    const rootFolder = this.at('root');
    const prefix = ['unshare', '-m', 'sh', '-c', 'mount --bind / "$0" && exec "$@"', rootFolder];
    const { pid } = await makeClient()
      .withPrefix(prefix)
      .restore({
        imagesDir: view,
        workDir: view,
        logFile: 'restore.log',
        root: rootFolder,
        external: [external.mountAtRestore('torpor', this.at('run'))],
      });
    this.root = await identify(pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.root !== undefined) await signalProcess(this.root, 'SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

describe.skipIf(!canCheckpoint)('files that changed while suspended', { timeout: 60_000 }, () => {
  it('lets documents change, and keeps the data that was mapped', async () => {
    await using application = new Application();
    await application.start();
    await application.suspend();
    const at = (name: string) => application.at(name);
    appendFileSync(at('document'), ' grown');
    writeFileSync(at('log'), '');
    rmSync(at('scratch'));
    chmodSync(at('closed'), 0o600);
    writeFileSync(at('settings.new'), 'other settings');
    renameSync(at('settings.new'), at('settings'));

    const prepared = await application.prepare();
    expect(prepared.findings.map(({ verdict, what }) => [verdict, what])).toEqual(
      expect.arrayContaining([
        ['degraded', `${at('document')} was changed after python was suspended (8 bytes then, 14 now).`],
        ['degraded', `${at('log')} was changed after python was suspended (3 bytes then, 0 now).`],
        ['degraded', `${at('scratch')}, which python had open, was removed after it was suspended.`],
        ['handled', `The permissions of ${at('closed')} were changed after python was suspended.`],
        ['handled', `${at('settings')} was changed after python was suspended.`],
      ]),
    );
    // What the test runner itself has open may have leaked into the application, and grows.
    const own = prepared.findings.filter(({ what }) => what.includes(application.folder));
    expect(own).toHaveLength(5);
    await application.restore(prepared);
    await application.sees('settings', 'document grown');
    writeFileSync(at('run/write'), '');
    for (let round = 0; round < 300 && readFileSync(at('log'), 'utf8') === ''; round++) await sleep(10);
    expect(readFileSync(at('log'), 'utf8')).toBe('more\n');
    expect(await readlink(`/proc/${application.pid}/cwd`)).toBe('/');

    // And again: what it has mapped now is the copy, which must be kept as well.
    application.snapshot = at('second');
    mkdirSync(at('second/images'), { recursive: true });
    await application.suspend();
    const again = await application.prepare();
    expect(again.findings.filter(({ what }) => what.includes(application.folder))).toEqual([]);
    await application.restore(again);
    await application.sees('settings', 'document grown');
  });

  it('restores untouched files from untouched images', async () => {
    await using application = new Application();
    await application.start();
    await application.suspend();
    const prepared = await application.prepare();
    expect(prepared.findings.filter(({ what }) => what.includes(application.folder))).toEqual([]);
    await application.restore(prepared);
    await application.sees('settings', 'document');
  });

  it('refuses, by name, what it cannot do without, and changes nothing then', async () => {
    await using application = new Application();
    await application.start();
    await application.suspend();
    rmSync(application.at('document'));
    rmSync(application.at('scratch'));
    await expect(application.prepare()).rejects.toMatchObject({
      code: 'blocked',
      message: `${application.at('document')}, which python had open, was removed after it was suspended.`,
      hint: expect.stringContaining('Put it back'),
    });
    expect(existsSync(application.at('scratch'))).toBe(false);
    writeFileSync(application.at('document'), 'another');
    await application.restore(await application.prepare());
    await application.sees('settings', 'another');
  });

  it('makes nothing again that the application’s user could not make', async () => {
    await using application = new Application();
    await application.start();
    await application.suspend();
    const scratch = application.at('scratch');
    application.user = { ...application.user, uid: 65534, gid: 65534 };
    application.records = application.records.map((record) =>
      record.path === scratch ? { ...record, uid: 65534, gid: 65534 } : record,
    );
    rmSync(scratch);
    await expect(application.prepare()).rejects.toMatchObject({
      code: 'blocked',
      message: expect.stringContaining('cannot be made again'),
    });
    expect(existsSync(scratch)).toBe(false);
  });
});

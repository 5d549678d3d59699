/** Files that change while real processes have them, or would have them again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compareFiles } from '../../engine/files/compare.ts';
import { FileHashes } from '../../engine/files/hashes.ts';
import { packageOf } from '../../engine/files/packages.ts';
import { type FileRecord, fileRecordSchema, keepVolatile, recordFiles } from '../../engine/files/record.ts';

const isRoot = process.getuid?.() === 0;

/** Opens and maps its arguments as it is told, says so, and waits. */
const program = `
import sys, mmap, os, socket
held = []
for use, path in (a.split(":", 1) for a in sys.argv[1:]):
    path = os.fsencode(path)
    if use == "map":
        f = open(path, "rb"); held.append(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)); f.close()
    elif use == "map-shared":
        f = open(path, "r+b"); held.append(mmap.mmap(f.fileno(), 0)); f.close()
    elif use == "bind":
        s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(1); held.append(s)
    elif use == "latin1":
        held.append(open(os.path.dirname(path) + b"/\\xff\\xfe", "wb"))
    else:
        held.append(open(path, use))
print("ready", flush=True)
sys.stdin.read()
`;

describe.skipIf(!isRoot)('files of processes', () => {
  let folder: string;
  let view: { root: string; runFolder: string };
  let hashes: FileHashes;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'torpor-files-é-'));
    view = { root: '/', runFolder: join(folder, 'run') };
    hashes = new FileHashes();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.stdin?.end();
      if (child.exitCode === null) await once(child, 'exit');
    }
    rmSync(folder, { recursive: true });
  });

  const at = (name: string, contents?: string) => {
    const path = join(folder, name);
    if (contents !== undefined) writeFileSync(path, contents);
    return path;
  };

  async function start(uses: string[], python = '/usr/bin/python3'): Promise<number> {
    const child = spawn(python, ['-c', program, ...uses], { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/' });
    children.push(child);
    await once(createInterface(child.stdout), 'line');
    return child.pid ?? -1;
  }

  /** What is recorded of it, as it comes back out of a manifest. */
  async function record(pid: number): Promise<FileRecord[]> {
    const text = JSON.stringify(await recordFiles([pid], view, hashes));
    return fileRecordSchema.array().parse(JSON.parse(text));
  }

  const of = (records: FileRecord[], path: string) => records.find((each) => each.path === path);

  it('tells programs, libraries, data and documents apart', async () => {
    const data = at('data', 'data');
    const shared = at('shared', 'shared');
    const log = at('log', '');
    const document = at('new\nline é', 'text');
    const gone = at('gone', 'x');
    const uses = [`map:${data}`, `map-shared:${shared}`, `a:${log}`, `r:${document}`, `r:${gone}`];
    const pid = await start([...uses, `latin1:${data}`, `bind:${at('socket')}`]);
    rmSync(gone);
    const records = await record(pid);
    expect(records).toContainEqual(
      expect.objectContaining({ role: 'executable', path: expect.stringContaining('python3') }),
    );
    expect(records).toContainEqual(
      expect.objectContaining({ role: 'library', path: expect.stringContaining('libc.so.6') }),
    );
    expect(of(records, data)).toMatchObject({ role: 'mapped-data', writable: false, size: '4' });
    expect(of(records, shared)).toMatchObject({ role: 'mapped-data', writable: true });
    expect(of(records, shared)).not.toHaveProperty('sha256');
    expect(of(records, log)).toMatchObject({ role: 'document', writable: true, append: true });
    expect(of(records, document)).toMatchObject({
      role: 'document',
      writable: false,
      sha256: expect.any(String),
    });
    expect(records.filter(({ bytes }) => bytes !== undefined)).toHaveLength(1);
    expect(of(records, folder)).toMatchObject({ kind: 'socket-folder', uid: 0, mode: 0o700 });
    expect(records.filter(({ path }) => path.includes('gone'))).toEqual([]);
    expect(await compareFiles(records, view)).toEqual([]);
  });

  it('finds a program replaced by one of the same size, and takes the same one put back', async () => {
    const python = at('python');
    copyFileSync('/usr/bin/python3', python);
    chmodSync(python, 0o755);
    const records = await record(await start([], python));
    expect(of(records, python)).toMatchObject({ role: 'executable' });

    const bytes = readFileSync(python);
    writeFileSync(`${python}.new`, bytes, { mode: 0o755 });
    renameSync(`${python}.new`, python);
    expect(await compareFiles(records, view)).toEqual([]);

    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(`${python}.new`, bytes, { mode: 0o755 });
    const { atime, mtime } = statSync(python);
    utimesSync(`${python}.new`, atime, mtime);
    renameSync(`${python}.new`, python);
    expect(await compareFiles(records, view)).toMatchObject([{ kind: 'program-replaced', path: python }]);

    rmSync(python);
    expect(await compareFiles(records, view)).toMatchObject([{ kind: 'program-missing', path: python }]);
  });

  it('finds documents that have grown, gone or changed their permissions, and folders that are gone', async () => {
    const log = at('log', 'one\n');
    const read = at('read', 'text');
    const closed = at('closed', 'text');
    mkdirSync(at('sockets'));
    const records = await record(
      await start([`a:${log}`, `r:${read}`, `r:${closed}`, `bind:${at('sockets/s')}`]),
    );
    appendFileSync(log, 'two\n');
    rmSync(read);
    chmodSync(closed, 0o600);
    rmSync(at('sockets'), { recursive: true });
    const changes = await compareFiles(records, view);
    expect(changes).toHaveLength(4);
    expect(changes).toMatchObject(
      expect.arrayContaining([
        expect.objectContaining({ kind: 'document-changed', path: log, oldSize: 4, newSize: 8 }),
        expect.objectContaining({ kind: 'document-missing', path: read, canRecreate: false }),
        expect.objectContaining({ kind: 'permissions-changed', path: closed }),
        expect.objectContaining({ kind: 'folder-missing', path: at('sockets') }),
      ]),
    );
  });

  it('knows the folder of a socket that was removed before', async () => {
    mkdirSync(at('sockets'));
    const pid = await start([`bind:${at('sockets/s')}`]);
    rmSync(at('sockets'), { recursive: true });
    const records = await record(pid);
    expect(of(records, at('sockets'))).toMatchObject({ kind: 'socket-folder', uid: 0, mode: 0o700 });
  });

  it('keeps copies of data that may change, and of nothing else', async () => {
    const data = at('user', 'settings');
    const shared = at('shared', 'shared');
    const records = await record(await start([`map:${data}`, `map-shared:${shared}`]));
    await keepVolatile(records, view, folder);
    const kept = records.flatMap((each) => (each.kind === 'file' && each.kept !== undefined ? [each] : []));
    expect(kept.map(({ path }) => path).filter((path) => path.startsWith(folder))).toEqual([data]);
    expect(readFileSync(join(folder, kept.find(({ path }) => path === data)?.kept ?? ''), 'utf8')).toBe(
      'settings',
    );
    writeFileSync(`${data}.new`, 'SETTINGS');
    renameSync(`${data}.new`, data);
    expect(await compareFiles(records, view)).toMatchObject([
      { kind: 'mapped-data-replaced', path: data, missing: false, record: { kept: expect.any(String) } },
    ]);
  });

  it('copies no file that was put in the place of the recorded one', async () => {
    const data = at('user', 'settings');
    const records = await record(await start([`map:${data}`]));
    const secret = at('secret', 'a secret');
    renameSync(secret, data);
    await keepVolatile(records, view, folder);
    expect(of(records, data)).not.toHaveProperty('kept');
  });

  it('remembers hashes over a restart, but not those of a file that has just changed', async () => {
    const cache = at('hashes.json');
    const first = new FileHashes(cache);
    const old = '/usr/bin/env';
    const young = at('young', 'x');
    const stat = async (path: string) => statSync(path, { bigint: true });
    const sha256 = await first.hash(old, await stat(old));
    await first.hash(young, await stat(young));
    await first.flush();
    expect(JSON.parse(readFileSync(cache, 'utf8')).entries).toEqual([[expect.any(String), sha256]]);
    // Known by what it was: it need not even be there.
    expect(await new FileHashes(cache).hash('/nowhere', await stat(old))).toBe(sha256);
    writeFileSync(cache, 'not JSON');
    expect(await new FileHashes(cache).hash(old, await stat(old))).toBe(sha256);
    await expect(
      first.hash(young, await stat(old).then((other) => ({ ...other, ino: 1n }))),
    ).rejects.toMatchObject({
      code: 'ESTALE',
    });
  });

  it.skipIf(!existsSync('/usr/bin/dpkg-query'))('knows the package of a file', async () => {
    expect(await packageOf('/usr/bin/dpkg-query', '/')).toEqual({
      name: 'dpkg',
      version: expect.any(String),
    });
    expect(await packageOf('/usr/lib/x86_64-linux-gnu/libc.so.6', '/')).toMatchObject({ name: 'libc6' });
    expect(await packageOf(at('own*'), '/')).toBeUndefined();
  });
});

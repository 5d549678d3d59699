/** The program that dpkg starts before it replaces files, and what becomes of what it has kept. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeptFiles, systemFileList } from '../../engine/files/kept-files.ts';
import type { RecordedFile } from '../../engine/files/record.ts';
import { findInstallation } from '../../engine/installation.ts';

const { keep } = findInstallation();
const isRoot = process.getuid?.() === 0;
const sha256 = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
const log = pino({ enabled: false });

describe.skipIf(!isRoot)('torpor-keep', () => {
  let folder: string;
  let state: string;
  const mounts: string[] = [];

  beforeEach(() => {
    folder = mkdtempSync('/var/tmp/torpor-keep-');
    state = join(folder, 'state');
    mkdirSync(join(state, 'snapshots'), { recursive: true });
  });
  afterEach(() => {
    for (const path of mounts.splice(0)) execFileSync('umount', ['-l', path]);
    rmSync(folder, { recursive: true });
  });

  function makeFile(name: string, contents: string | Buffer, mode = 0o644): string {
    const path = join(folder, name);
    writeFileSync(path, contents);
    chmodSync(path, mode);
    return path;
  }

  /** As a snapshot lists it. */
  function lineOf(path: string): string {
    const { size, mtimeNs } = statSync(path, { bigint: true });
    return `${sha256(readFileSync(path))} ${size} ${mtimeNs} ${path}\n`;
  }

  function addSnapshot(id: string, ...paths: string[]): void {
    mkdirSync(join(state, 'snapshots', id));
    writeFileSync(join(state, 'snapshots', id, 'system-files'), paths.map(lineOf).join(''));
  }

  async function runKeep(env: Record<string, string> = {}): Promise<{ status: number; said: string }> {
    const done = promisify(execFile)(keep, [state], { env });
    return done.then(
      ({ stdout, stderr }) => ({ status: 0, said: stdout + stderr }),
      ({ code, stderr }) => ({ status: code, said: stderr }),
    );
  }

  const at = (contents: string | Buffer) => join(state, 'kept-files', sha256(contents));
  const keptNames = () => readdirSync(join(state, 'kept-files')).sort();
  const quiet = { status: 0, said: '' };

  /** The state folder on a file system in memory of this size. */
  function mountState(size: string): void {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', state]);
    mounts.push(state);
    mkdirSync(join(state, 'snapshots'));
  }

  it('links what is needed, which takes no room, and does nothing the second time', async () => {
    const library = makeFile('lib.so', 'library');
    addSnapshot('one', library);
    addSnapshot('two', library);
    expect(await runKeep()).toEqual(quiet);
    expect(keptNames()).toEqual([sha256('library')]);
    expect(statSync(at('library')).ino).toBe(statSync(library).ino);
    const { ctimeMs } = statSync(library);
    expect(await runKeep()).toEqual(quiet);
    expect(statSync(library).ctimeMs).toBe(ctimeMs);
    renameSync(makeFile('new', 'a newer library'), library);
    expect(await runKeep()).toEqual(quiet);
    expect(readFileSync(at('library'), 'utf8')).toBe('library');
    expect(keptNames()).toHaveLength(1);
    expect(statSync(join(state, 'kept-files')).mode & 0o777).toBe(0o700);
  });

  it('does nothing where nothing is suspended, nor for what replaces no files', async () => {
    expect(await runKeep()).toEqual(quiet);
    expect(existsSync(join(state, 'kept-files'))).toBe(false);
    addSnapshot('one', makeFile('lib.so', 'library'));
    for (const action of ['configure', 'triggers-only'])
      expect(await runKeep({ DPKG_HOOK_ACTION: action })).toEqual(quiet);
    expect(existsSync(join(state, 'kept-files'))).toBe(false);
    expect(await runKeep({ DPKG_HOOK_ACTION: 'unpack' })).toEqual(quiet);
    expect(keptNames()).toHaveLength(1);
    rmSync(state, { recursive: true });
    expect(await runKeep()).toEqual(quiet);
    mkdirSync(state);
  });

  it('says nothing to a user who calls dpkg without the right to', async () => {
    addSnapshot('one', makeFile('lib.so', 'library'));
    chmodSync(state, 0o700);
    const { stdout, stderr } = await promisify(execFile)(keep, [state], { uid: 21522, gid: 21522 });
    expect(stdout + stderr).toBe('');
  });

  it('reads no further than it understands, and does without files that are not there', async () => {
    const library = makeFile('lib.so', 'library');
    addSnapshot('one', library);
    const list = join(state, 'snapshots/one/system-files');
    const gone = `${sha256('gone')} 4 5 /usr/lib/not/there\n`;
    writeFileSync(list, `a later form\n\n${gone}${readFileSync(list, 'utf8')}${gone.trim()}`);
    mkdirSync(join(state, 'snapshots/earlier'));
    writeFileSync(join(state, 'snapshots/file'), '');
    expect(await runKeep()).toEqual(quiet);
    expect(keptNames()).toEqual([sha256('library')]);
  });

  it('keeps nothing that was changed in place', async () => {
    const library = makeFile('lib.so', 'library');
    addSnapshot('one', library);
    writeFileSync(library, 'LIBRARY');
    expect(await runKeep()).toEqual(quiet);
    expect(keptNames()).toEqual([]);
  });

  it('keeps nothing that anybody but root could write to', async () => {
    const own = makeFile('own.so', 'of a user');
    chownSync(own, 21522, 21522);
    addSnapshot('one', own, makeFile('shared.so', 'shared', 0o664), makeFile('open.so', 'open', 0o646));
    expect(await runKeep()).toEqual(quiet);
    expect(keptNames()).toEqual([]);
  });

  it('believes no list of what has which contents where that is at the cost of another one', async () => {
    const library = makeFile('lib.so', 'library');
    const other = makeFile('other.so', 'another one, as long as wanted');
    const wrong = lineOf(other).replace(/^\w+/, sha256('library'));
    const listed = (id: string, line: string) => {
      mkdirSync(join(state, 'snapshots', id));
      writeFileSync(join(state, 'snapshots', id, 'system-files'), line);
    };
    // Before the right one is asked for.
    listed('wrong', wrong);
    expect(await runKeep()).toEqual(quiet);
    addSnapshot('right', library);
    expect(await runKeep()).toEqual(quiet);
    expect(readFileSync(at('library'), 'utf8')).toBe('library');
    // And after it has gone from where it was.
    renameSync(makeFile('new', 'a newer library'), library);
    expect(await runKeep()).toEqual(quiet);
    expect(readFileSync(at('library'), 'utf8')).toBe('library');
  });

  it('makes a damaged one anew', async () => {
    addSnapshot('one', makeFile('lib.so', 'library'));
    mkdirSync(join(state, 'kept-files'));
    writeFileSync(at('library'), 'lib');
    writeFileSync(`${at('library')}.new`, 'left by one that was killed');
    expect(await runKeep()).toEqual(quiet);
    expect(readFileSync(at('library'), 'utf8')).toBe('library');
    expect(keptNames()).toHaveLength(1);
  });

  it('copies what gives rights, without them', async () => {
    const program = makeFile('program', 'program', 0o4755);
    const capable = makeFile('capable', 'capable', 0o755);
    execFileSync('setcap', ['cap_net_raw+ep', capable]);
    addSnapshot('one', program, capable);
    chownSync(program, 0, 5);
    chmodSync(program, 0o6751);
    expect(await runKeep()).toEqual(quiet);
    const { mode, uid, gid, mtimeMs } = statSync(at('program'));
    expect({ mode: mode & 0o7777, uid, gid }).toEqual({ mode: 0o751, uid: 0, gid: 5 });
    expect(mtimeMs).toBe(statSync(program).mtimeMs);
    expect(execFileSync('getcap', [at('capable')], { encoding: 'utf8' })).toBe('');
    expect(execFileSync('getcap', [capable], { encoding: 'utf8' })).toContain('cap_net_raw');
  });

  it('copies to another file system, as long as there is room to spare', async () => {
    mountState('10m');
    const small = makeFile('small', Buffer.alloc(1_000_000, 's'));
    const large = makeFile('large', Buffer.alloc(8_500_000, 'l'));
    addSnapshot('one', large, small);
    const { status, said } = await runKeep();
    expect({ status, said }).toEqual({
      status: 1,
      said: expect.stringMatching(/^torpor: 1 of the files .* such as \S+large \(No space left on device\)/),
    });
    expect(keptNames()).toEqual([sha256(readFileSync(small))]);
    expect(readFileSync(at(readFileSync(small)))).toEqual(readFileSync(small));
    utimesSync(small, 0, 0);
    expect((await runKeep()).status).toBe(1);
    expect(keptNames()).toHaveLength(1);
  });

  it('leaves nothing that looks whole where it is killed', async () => {
    mountState('2g');
    const large = makeFile('large', '');
    truncateSync(large, 200_000_000);
    addSnapshot('one', large);
    const child = spawn(keep, [state], { stdio: 'ignore' });
    for (let round = 0; round < 2000 && !existsSync(join(state, 'kept-files')); round++)
      await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (const name of keptNames().filter((each) => !each.endsWith('.new')))
      expect(statSync(join(state, 'kept-files', name)).size).toBe(200_000_000);
    expect(await runKeep()).toEqual(quiet);
    expect(keptNames()).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/)]);
  });

  it('keeps dpkg waiting for a limited time', async () => {
    addSnapshot('one', makeFile('lib.so', 'library'));
    mkdirSync(join(state, 'kept-files'));
    const holder = spawn('flock', ['--no-fork', join(state, 'kept-files'), 'sleep', '60'], {
      stdio: 'ignore',
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const begun = Date.now();
    const { status, said } = await runKeep();
    holder.kill();
    expect(status).toBe(1);
    expect(said).toContain('were not all kept within 30 seconds');
    expect(Date.now() - begun).toBeLessThan(40_000);
  }, 60_000);

  describe('the engine', () => {
    const record = (path: string): RecordedFile => {
      const { dev, ino, size, mtimeNs, ctimeNs, uid, gid, mode } = statSync(path, { bigint: true });
      return {
        ...{ kind: 'file', path, role: 'library', writable: false, append: false },
        ...{ dev: String(dev), ino: String(ino), size: String(size) },
        ...{ mtimeNs: String(mtimeNs), ctimeNs: String(ctimeNs) },
        ...{ uid: Number(uid), gid: Number(gid), mode: Number(mode) & 0o7777 },
        sha256: sha256(readFileSync(path)),
      };
    };
    const open = (needed: string[] | undefined, running: number[] = []) =>
      KeptFiles.open(
        state,
        { ofSnapshots: async () => needed && new Set(needed), running: async () => running },
        log,
      );

    it('gives what is whole, and has no rights of its own', async () => {
      const library = makeFile('lib.so', 'library');
      addSnapshot('one', library);
      await runKeep();
      const files = await open([]);
      expect(await files.pathFor(record(library))).toBe(at('library'));
      expect(await files.pathFor({ ...record(library), writable: true })).toBeUndefined();
      chmodSync(library, 0o4755);
      expect(await files.pathFor(record(library))).toBeUndefined();
      chmodSync(library, 0o755);
      const lost = record(library);
      writeFileSync(library, 'LIBRARY');
      expect(await files.pathFor(lost)).toBeUndefined();
    });

    it('gives no program from where nothing may be executed', async () => {
      mountState('10m');
      const library = makeFile('lib.so', 'library');
      addSnapshot('one', library);
      await runKeep();
      const files = await open([]);
      expect(await files.pathFor(record(library))).toBe(at('library'));
      execFileSync('mount', ['-o', 'remount,noexec', state]);
      expect(await files.pathFor(record(library))).toBeUndefined();
      expect(await files.pathFor({ ...record(library), role: 'mapped-data' })).toBe(at('library'));
    });

    it('sweeps what nobody needs, unless that is not known, or the hook is at work', async () => {
      const paths = ['a', 'b', 'c'].map((name) => makeFile(name, name));
      addSnapshot('one', ...paths);
      await runKeep();
      await (await open(undefined)).sweep();
      expect(keptNames()).toHaveLength(3);
      const holder = spawn('flock', ['--no-fork', join(state, 'kept-files'), 'sleep', '60'], {
        stdio: 'ignore',
      });
      await new Promise((resolve) => setTimeout(resolve, 200));
      await (await open([])).sweep();
      expect(keptNames()).toHaveLength(3);
      holder.kill();
      await once(holder, 'exit');

      const script =
        'import mmap,sys; f=open(sys.argv[1]); m=mmap.mmap(f.fileno(),0,prot=1); f.close(); print(1,flush=True); sys.stdin.read()';
      const user = spawn('python3', ['-c', script, at('b')], { stdio: ['pipe', 'pipe', 'ignore'] });
      await once(user.stdout, 'data');
      writeFileSync(`${at('c')}.new`, '');
      await (await open([sha256('a')], [user.pid ?? 0])).sweep();
      expect(keptNames()).toEqual([sha256('a'), sha256('b')].sort());
      user.stdin.end();
      await once(user, 'exit');
      await (await open([sha256('a')])).sweep();
      expect(keptNames()).toEqual([sha256('a')]);
    });

    it('lists what packages have brought and what is kept, and nothing that a link leads to', () => {
      const kept = `/var/lib/torpor/kept-files/${sha256('x')}`;
      const listed = (path: string, more: Partial<RecordedFile> = {}) =>
        systemFileList([{ ...record(makeFile('x', 'x')), path, ...more }]) !== '';
      expect(listed('/usr/lib/libx.so')).toBe(true);
      expect(listed(kept)).toBe(true);
      expect(listed('/usr/share/x', { role: 'mapped-data' })).toBe(true);
      expect(listed('/usr/share/x', { role: 'mapped-data', kept: 'kept/0' })).toBe(false);
      expect(listed('/usr/share/x', { role: 'document' })).toBe(false);
      expect(listed('/home/alice/libx.so')).toBe(false);
      expect(listed('/usr/../root/secret')).toBe(false);
      expect(listed('/usr/lib/a\nb')).toBe(false);
      expect(listed('/usr/lib/a', { writable: true })).toBe(false);
      expect(listed('/usr/lib/a', { sha256: undefined })).toBe(false);
      expect(systemFileList([{ kind: 'of later' }])).toBe('');
    });
  });
});

/** Records of files: what is read from /proc, what is decided about a change, what is rewritten in an image. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Package } from '../../engine/files/packages.ts';
import { hostPath, pathBytes, recordPath } from '../../engine/files/paths.ts';
import { parseMaps, parseUnixSockets } from '../../engine/files/processes.ts';
import { fileRecordSchema, type RecordedFile } from '../../engine/files/record.ts';
import { rewriteRegFiles } from '../../engine/files/rewrite.ts';
import { planFor, replacedFindings } from '../../engine/transaction/surroundings.ts';
import { fileEntry, makeImage, readImage } from '../../proto/images.ts';
import { encode, message, required } from '../../proto/wire.ts';

describe('parseMaps', () => {
  it('finds files and how they are mapped', () => {
    const text = [
      '7f1200000000-7f1200001000 r-xp 00001000 fe:00 1234                       /usr/lib/libc.so.6',
      '00400000-00401000 rw-s 00000000 fe:00 99                                 /home/a/with  two spaces',
      '7ffd0000-7ffd1000 rw-p 00000000 00:00 0                                  [stack]',
      '7f1300000000-7f1300001000 rw-p 00000000 00:00 0 ',
      '7f1400000000-7f1400001000 r--p 00000000 fe:00 7                          /tmp/a\\012b\xe9 (deleted)',
      '',
    ].join('\n');
    expect(parseMaps(text)).toEqual([
      {
        range: '7f1200000000-7f1200001000',
        executable: true,
        sharedWritable: false,
        key: 'fe:00 1234 /usr/lib/libc.so.6',
      },
      {
        range: '400000-401000',
        executable: false,
        sharedWritable: true,
        key: 'fe:00 99 /home/a/with  two spaces',
      },
      {
        range: '7f1400000000-7f1400001000',
        executable: false,
        sharedWritable: false,
        key: 'fe:00 7 /tmp/a\\012b\xe9 (deleted)',
      },
    ]);
  });
});

it('finds the paths of bound sockets, and no abstract or relative ones', () => {
  const text = [
    'Num       RefCount Protocol Flags    Type St Inode Path',
    '0000000000000000: 00000002 00000000 00010000 0001 01 20177 /home/a/so cket\xe9',
    '0000000000000000: 00000003 00000000 00000000 0001 03 20178',
    '0000000000000000: 00000002 00000000 00010000 0001 01 20179 @/tmp/.X11-unix/X1',
    '0000000000000000: 00000002 00000000 00010000 0001 01   201 relative',
    '',
  ].join('\n');
  const sockets = parseUnixSockets(text);
  expect([...sockets.keys()]).toEqual(['20177']);
  expect(sockets.get('20177')).toEqual(Buffer.from('/home/a/so cket\xe9', 'latin1'));
});

describe('paths', () => {
  const folder = mkdtempSync(join(tmpdir(), 'torpor-paths-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([Buffer.from('/a/é\n'), Buffer.from([0x2f, 0xff, 0xfe, 0x0a])])(
    'keeps the bytes of %s',
    (bytes) => {
      expect(pathBytes(JSON.parse(JSON.stringify(recordPath(bytes))))).toEqual(bytes);
    },
  );

  it('follows links inside another root, and none out of it', async () => {
    mkdirSync(join(folder, 'usr/lib'), { recursive: true });
    symlinkSync('/usr/lib', join(folder, 'lib'));
    symlinkSync('../../../../etc', join(folder, 'out'));
    symlinkSync('loop', join(folder, 'loop'));
    const view = { root: folder, runFolder: '/r' };
    const at = async (path: string) => (await hostPath(view, Buffer.from(path))).toString();
    expect(await at('/lib/x.so')).toBe(join(folder, 'usr/lib/x.so'));
    expect(await at('/out/passwd')).toBe(join(folder, 'etc/passwd'));
    expect(await at('/run/torpor/kept/1')).toBe('/r/kept/1');
    await expect(at('/loop/x')).rejects.toMatchObject({ code: 'ELOOP' });
  });
});

describe('rewriteRegFiles', () => {
  const regFile = message('reg_file_entry', {
    id: required(1, 'uint32'),
    flags: required(2, 'uint32'),
    pos: required(3, 'uint64'),
    /** One that Torpor's own description leaves out. */
    fown: required(5, 'bytes'),
    name: required(6, 'bytes'),
    mntId: required(7, 'sint32'),
    size: required(8, 'uint64'),
    mode: required(10, 'uint32'),
    checksum: required(12, 'uint32'),
  });
  const entry = message('file_entry', {
    type: required(1, 'enum'),
    id: required(2, 'uint32'),
    reg: required(3, regFile),
  });
  const file = (id: number, name: string) => {
    const common = { flags: 2, pos: 7n, fown: Buffer.from('who'), mntId: 300, size: 50n, mode: 0o100644 };
    return encode(entry, { type: 1, id, reg: { id, ...common, name: Buffer.from(name), checksum: 9 } });
  };
  const image = makeImage('files', file(1, '/a'), file(2, '/b'), file(3, '/c'));

  it('changes what it shall and nothing else', () => {
    const rewritten = rewriteRegFiles(
      image,
      new Map([
        [2, { forgetContents: true }],
        [3, { forgetMode: true, movedTo: { path: '/run/torpor/kept/0', mountId: 421 } }],
      ]),
    );
    const [a, b, c] = readImage('files', fileEntry, rewritten).map(({ reg }) => reg);
    expect(a).toMatchObject({ size: 50n, mode: 0o100644, mntId: 300 });
    expect(b).toMatchObject({ name: Buffer.from('/b'), mode: 0o100644, mntId: 300, pos: 7n });
    expect(b?.size).toBeUndefined();
    expect(c).toMatchObject({ name: Buffer.from('/run/torpor/kept/0'), mntId: 421, size: 50n });
    expect(c?.mode).toBeUndefined();
    expect(rewritten.toString('latin1').match(/who/g)).toHaveLength(3);
    expect(rewriteRegFiles(image, new Map())).toEqual(image);
  });

  it('refuses an id that is not there', () => {
    expect(() => rewriteRegFiles(image, new Map([[9, {}]]))).toThrow('no file 9');
  });
});

describe('planFor', () => {
  const user = { uid: 1000, gid: 1000, groups: [], name: 'a', home: '/home/a', shell: '/bin/sh' };
  const capsule = {
    command: ['gimp'],
    cwd: '/',
    env: {},
    root: '/',
    user,
    hostMounts: [],
    hostname: 'h',
    geometry: '1x1',
  };
  const record: RecordedFile = {
    ...{ kind: 'file', path: '/home/a/x', role: 'document', writable: true, append: false },
    ...{ dev: '1', ino: '2', size: '3', mtimeNs: '4', ctimeNs: '5', uid: 1000, gid: 1000, mode: 0o644 },
  };

  it('names the file and its package where a library was replaced', () => {
    const path = '/usr/lib/libgtk-3.so.0';
    const owner = { name: 'libgtk-3-0', version: '3.24.38-2' };
    const plan = planFor({ kind: 'program-replaced', path, record, package: owner }, 'gimp', capsule);
    expect(plan).toMatchObject({
      kind: 'refuse',
      sentence: `${path} (package libgtk-3-0, now 3.24.38-2) was replaced after gimp was suspended.`,
      hint: expect.stringContaining('apt-get install libgtk-3-0='),
    });
  });

  it('makes only what is the application’s own again', () => {
    const missing = { kind: 'document-missing', path: record.path, canRecreate: true } as const;
    expect(planFor({ ...missing, record }, 'gimp', capsule).kind).toBe('recreate');
    expect(planFor({ ...missing, record: { ...record, uid: 0 } }, 'gimp', capsule).kind).toBe('refuse');
    expect(planFor({ ...missing, record, canRecreate: false }, 'gimp', capsule).kind).toBe('refuse');
  });

  it('goes on with a copy that was kept, and refuses without one', () => {
    const change = { kind: 'mapped-data-replaced', path: record.path, missing: false } as const;
    expect(planFor({ ...change, record }, 'gimp', capsule).kind).toBe('refuse');
    expect(planFor({ ...change, record: { ...record, kept: 'kept/3' } }, 'gimp', capsule)).toMatchObject({
      kind: 'use-kept',
      finding: { verdict: 'handled' },
    });
  });

  it('goes on with what was kept of packages, whatever became of the file', () => {
    const path = '/usr/lib/libgtk-3.so.0';
    const at = { path: `/var/lib/torpor/kept-files/${'0'.repeat(64)}`, mountId: 7 };
    const replaced = { kind: 'program-replaced', path, record, package: { name: 'gtk' } } as const;
    const expected = { kind: 'use-kept-file', at, replaced: { path, missing: false } };
    expect(planFor(replaced, 'gimp', capsule, at)).toMatchObject(expected);
    const missing = { ...replaced, kind: 'program-missing' } as const;
    expect(planFor(missing, 'gimp', capsule, at)).toMatchObject({ replaced: { missing: true } });
    const data = { ...replaced, kind: 'mapped-data-replaced', missing: true } as const;
    expect(planFor(data, 'gimp', capsule, at)).toMatchObject({ replaced: { missing: true } });
    const withCopy = { ...data, record: { ...record, kept: 'kept/3' } };
    expect(planFor(withCopy, 'gimp', capsule, at).kind).toBe('use-kept');
  });

  it('says what it was that is gone where something kept is', () => {
    const path = `/var/lib/torpor/kept-files/${'0'.repeat(64)}`;
    expect(planFor({ kind: 'program-missing', path, record }, 'gimp', capsule)).toMatchObject({
      kind: 'refuse',
      sentence: `${path}, which was kept of a package that was replaced, is damaged or gone.`,
    });
  });

  it('says once of each package that it was replaced', () => {
    const file = (path: string, owner?: Package, missing = false) => ({ path, missing, package: owner });
    const gtk = { name: 'libgtk-3-0', version: '3.24.50' };
    const found = replacedFindings(
      [
        ...[file('/usr/lib/libgtk-3.so.0', gtk), file('/usr/lib/libgdk-3.so.0', gtk)],
        ...[file('/usr/lib/libz.so.1', { name: 'zlib1g' }, true)],
        ...[
          file('/opt/a', undefined, true),
          file('/opt/b', undefined, true),
          file('/opt/c', undefined, true),
        ],
        file(`/var/lib/torpor/kept-files/${'0'.repeat(64)}`, undefined, true),
      ],
      'gimp',
    );
    expect(found.map(({ what }) => what)).toEqual([
      'The package libgtk-3-0 (now 3.24.50) was replaced after gimp was suspended; it goes on with the 2 files it had of the earlier one.',
      'The package zlib1g (not installed now) was removed after gimp was suspended; it goes on with the file it had of the earlier one.',
      '/opt/a and 2 more files were removed after gimp was suspended; it goes on with those it had.',
    ]);
    expect(found.every(({ verdict }) => verdict === 'degraded')).toBe(true);
  });

  it('takes no copy from outside the snapshot', () => {
    expect(fileRecordSchema.safeParse({ ...record, kept: 'kept/1' }).success).toBe(true);
    expect(fileRecordSchema.safeParse({ ...record, kept: '../../etc/shadow' }).success).toBe(false);
  });
});

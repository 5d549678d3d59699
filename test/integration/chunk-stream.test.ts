/** The stream of chunks: snapshots and files become one and come back from it, and a hostile one makes nothing. */
import { execFileSync } from 'node:child_process';
import {
  cp,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  writeFile,
} from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Answer,
  chunkItem,
  chunksOf,
  exportBytes,
  exportSources,
  fileItem,
  fileSource,
  folderItem,
  idOf,
  importStream,
  linkItem,
  pack,
  readStream,
  snapshotSource,
  u32,
  wholeFile,
  zerosItem,
} from '../support/chunk-stream.ts';
import { pageBytes, randomBytes, sha256, textBytes } from '../support/page-store.ts';
import {
  imageOf,
  type Memory,
  openEncryptedStore,
  page,
  readMemory,
  takeSnapshot,
} from '../support/store.ts';

const MiB = 1 << 20;
const { errno } = constants;
let folder: string;
let into: string;
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-chunk-stream-');
  into = join(folder, 'into');
  await mkdir(into);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const text = textBytes(4 * pageBytes, 1);

describe('files', () => {
  const contents: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    'one byte': Buffer.from('x'),
    'a chunk but a byte': randomBytes(65_535, 1),
    'a chunk': textBytes(65_536, 2),
    'a chunk and a byte': randomBytes(65_537, 3),
    'zeros that are written': Buffer.alloc(200_000),
    'large, of every kind': Buffer.concat([
      textBytes(3 * MiB, 4),
      Buffer.alloc(MiB),
      randomBytes(MiB + 5, 5),
    ]),
    'twice in part': Buffer.concat([textBytes(65_536, 2), Buffer.from('end')]),
  };

  async function write(): Promise<string[]> {
    for (const [name, bytes] of Object.entries(contents)) await writeFile(join(folder, name), bytes);
    await using sparse = await open(join(folder, 'sparse'), 'w');
    await sparse.write('here', 5 * MiB + 4095);
    await sparse.write('there', 90 * MiB);
    await sparse.truncate(100 * MiB + 7);
    return [...Object.keys(contents), 'sparse'];
  }

  it.each(['zstd', 'none'])('come back as they were, by way of %s', async (compress) => {
    const names = await write();
    const sources = names.map((name) => fileSource(join(folder, name)));
    const bytes = await exportBytes(sources, { args: ['--compress', compress] });
    const stream = readStream(bytes);
    // Zeros and what is there twice are not sent, and text becomes smaller.
    expect(bytes.length).toBeLessThan((compress === 'zstd' ? 4 : 6) * MiB);
    const files = names.map((name, source) => {
      const answer = stream.answers[source] as Answer & { kind: 'list' };
      expect(answer.source).toBe(source);
      return wholeFile(name, chunksOf(stream, answer), answer.bytes);
    });
    expect(await importStream(into, Buffer.concat(files))).toEqual({
      code: 0,
      event: { event: 'done', files: names.length, chunks: 0, storedBytes: 0 },
    });
    for (const [source, name] of names.entries()) {
      const came = await readFile(join(into, name));
      expect(came.equals(await readFile(join(folder, name))), name).toBe(true);
      expect((stream.answers[source] as Answer & { kind: 'list' }).sha256).toBe(sha256(came).toString('hex'));
    }
    expect((await lstat(join(into, 'sparse'))).blocks * 512).toBeLessThan(MiB);
  });

  it('are listed, but not sent, where their chunks are known', async () => {
    await write();
    const sources = [fileSource(join(folder, 'large, of every kind')), fileSource(join(folder, 'a chunk'))];
    const all = await exportSources(sources);
    const ids = [...all.chunks.keys()];
    const known = ids.slice(3).map((id) => Buffer.from(id, 'hex'));
    const some = await exportSources(sources, { known });
    expect(some.answers).toEqual(all.answers);
    expect([...some.chunks.keys()]).toEqual(ids.slice(0, 3));
  });

  it('that cannot be read are named, and nothing waits for them', async () => {
    await write();
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    execFileSync('ln', ['-s', 'empty', join(folder, 'link')]);
    const paths = ['missing', 'pipe', 'link', '.', 'one byte'].map((name) => join(folder, name));
    const { answers } = await exportSources(
      [...paths, '/dev/zero', `/${'x'.repeat(5000)}`].map((path) => fileSource(path)),
    );
    expect(answers.map((answer) => (answer.kind === 'error' ? answer.errno : answer.bytes))).toEqual([
      errno.ENOENT,
      errno.EINVAL,
      errno.ELOOP,
      errno.EISDIR,
      1,
      errno.EINVAL,
      errno.ENAMETOOLONG,
    ]);
    await expect(exportSources(['F zz\n'])).rejects.toThrow('hexadecimal');
    await expect(exportSources([fileSource('/etc/hostname').trim()])).rejects.toThrow('no source');
  });
});

describe('memory', () => {
  const memory: Memory = new Map([
    [
      100,
      [
        {
          vaddr: 0x400000n,
          pages: [...Array.from({ length: 100 }, (_, at) => page(at)), Buffer.alloc(pageBytes), page(3)],
        },
      ],
    ],
  ]);

  /** Brings a snapshot to another state folder, as an import of a bundle does. */
  async function bring(state: string, id: string, keys: Buffer | undefined): Promise<Buffer> {
    const from = join(state, 'snapshots', id);
    const stream = await exportSources([snapshotSource(from)], { args: ['--store', state], keys });
    const [answer] = stream.answers;
    const chunks = chunksOf(stream, answer);
    if (answer?.kind !== 'list') throw new Error('no list');
    expect(answer.bytes).toBe(Buffer.concat(chunks).length);
    const other = join(folder, 'other');
    await mkdir(join(other, 'packs'), { recursive: true });
    await cp(from, join(other, 'snapshots', id), { recursive: true });
    await writeFile(join(other, 'snapshots', id, 'pages', 'chunks'), Buffer.concat(answer.ids));
    const packed = chunks.map((chunk) => chunkItem(chunk, 'P', { codec: 2, stored: pack(chunk) }));
    const [first = Buffer.alloc(0)] = packed;
    const done = await importStream(into, Buffer.concat([...packed, first]), [
      '--packs',
      join(other, 'packs'),
    ]);
    expect(done).toMatchObject({ code: 0, event: { files: 0, chunks: chunks.length } });
    return readMemory(other, id, 1);
  }

  it.each([
    ['plain', false],
    ['encrypted', true],
  ])('of a %s store comes back as it was', async (_, encrypted) => {
    const state = join(folder, 'state');
    await mkdir(state);
    const { store } = await openEncryptedStore(state);
    if (encrypted) await store.encryption.turnOn('three words more', undefined, new Set());
    const { id } = await takeSnapshot(store, memory, {}, ['--codec', 'lz4']);
    const keys = store.encryption.forPrograms();
    expect((await bring(state, id, keys)).equals(imageOf(memory.get(100) ?? []))).toBe(true);
    if (!encrypted) return;
    const { answers } = await exportSources([snapshotSource(join(state, 'snapshots', id))], {
      args: ['--store', state],
    });
    expect(answers).toMatchObject([{ kind: 'error', errno: 126, what: /which is not there/ }]);
    // Nothing of it is on the disk as it is, where there is a key for what is written.
    const packs = join(folder, 'packs');
    await mkdir(packs);
    await importStream(into, chunkItem(page(7), 'P'), ['--packs', packs], keys);
    const [name = ''] = (await readdir(packs)).filter((each) => each.endsWith('.pack'));
    expect((await readFile(join(packs, name))).includes(page(7).subarray(0, 64))).toBe(false);
    expect((await readFile(join(packs, name))).length).toBe(64 + 64 + pageBytes + 28);
  });

  it('is not sent where a snapshot has it that is known, and damage is told from it', async () => {
    const state = join(folder, 'state');
    await mkdir(state);
    const { store } = await openEncryptedStore(state);
    const { id } = await takeSnapshot(store, memory);
    const source = snapshotSource(join(state, 'snapshots', id));
    const args = ['--store', state];
    const all = await exportSources([source, source], { args });
    expect(all.answers[1]).toEqual({ ...all.answers[0], source: 1 });
    const known = [...all.chunks.keys()].map((each) => Buffer.from(each, 'hex'));
    const none = await exportSources([source], { args, known });
    expect([none.chunks.size, none.answers[0]]).toEqual([0, all.answers[0]]);
    const [name = ''] = (await readdir(join(state, 'packs'))).filter((each) => each.endsWith('.pack'));
    const bytes = await readFile(join(state, 'packs', name));
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 9) ^ 4, bytes.length - 9);
    await writeFile(join(state, 'packs', name), bytes);
    const { answers } = await exportSources([source, fileSource('/dev/null')], { args });
    expect(answers).toMatchObject([{ errno: errno.EBADMSG, what: /are damaged/ }, { kind: 'error' }]);
  });
});

describe('an import', () => {
  it('gives owners, modes and times, and private files where it has not been told whose', async () => {
    const stream = Buffer.concat([
      folderItem('a', { mode: 0o755, owner: 1 }),
      folderItem('a/shut', { mode: 0o555 }),
      fileItem('a/shut/file', 0, { mode: 0o4 | 0o640, owner: 1, mtime: -1_500_000_000n }),
      linkItem('a/link', '../../outside', 1),
      folderItem('a', { mode: 0o711, owner: 0 }),
      fileItem('zeros', 5 * pageBytes - 1),
      zerosItem(3),
      zerosItem(2),
    ]);
    expect(await importStream(into, stream, ['--owner', '1000:1001'])).toMatchObject({ code: 0 });
    const look = async (path: string) => {
      const { mode, uid, gid } = await lstat(join(into, path));
      return [mode & 0o7777, uid, gid];
    };
    expect(await look('a')).toEqual([0o711, 0, 0]);
    expect(await look('a/shut')).toEqual([0o555, 0, 0]);
    expect(await look('a/shut/file')).toEqual([0o644, 1000, 1001]);
    expect(await look('a/link')).toEqual([0o777, 1000, 1001]);
    expect(await readlink(join(into, 'a/link'))).toBe('../../outside');
    expect((await lstat(join(into, 'a/shut/file'))).mtimeMs).toBe(-1500);
    expect((await lstat(join(into, 'zeros'))).size).toBe(5 * pageBytes - 1);

    const other = join(folder, 'private');
    await mkdir(other);
    expect(await importStream(other, stream)).toMatchObject({ code: 0 });
    const { mode, uid } = await lstat(join(other, 'a/shut/file'));
    expect([mode & 0o7777, uid]).toEqual([0o600, process.getuid?.()]);
  });

  const chunk = chunkItem(text);
  const file = fileItem('f', text.length);
  const hostile: Record<string, [Buffer[], string, RegExp]> = {
    'a path that leads out': [[fileItem('../f', 0)], 'EBADMSG', /part \. or \.\./],
    'a path that leads out later': [[folderItem('a'), folderItem('a/../..')], 'EBADMSG', /item 1 .*\.\./],
    'an absolute path': [[fileItem('/tmp/f', 0)], 'EBADMSG', /absolute/],
    'an empty part': [[folderItem('a'), folderItem('a/')], 'EBADMSG', /empty part/],
    'a zero byte in a path': [[folderItem('a\0b')], 'EBADMSG', /zero byte/],
    'a path that is too long': [[folderItem('x/'.repeat(2048))], 'EBADMSG', /length/],
    'a way through a link': [[linkItem('l', '.'), fileItem('l/f', 0)], 'ELOOP', /item 1 .*file l\/f/],
    'a way through a link to elsewhere': [
      [linkItem('l', '/tmp'), folderItem('l/f')],
      'ENOTDIR',
      /folder l\/f/,
    ],
    'a folder where a link is': [[linkItem('l', '.'), folderItem('l')], 'ENOTDIR', /no folder/],
    'a file where a link is': [[linkItem('l', 'outside'), fileItem('l', 0)], 'EEXIST', /cannot be made/],
    'a link where a file is': [[fileItem('f', 0), linkItem('f', 'x')], 'EEXIST', /cannot be made/],
    'a folder where a file is': [[fileItem('f', 0), folderItem('f')], 'ENOTDIR', /no folder/],
    'a file where a file is': [[fileItem('f', 0), fileItem('f', 0)], 'EEXIST', /item 1 .*file f/],
    'a folder in one that is not there': [[folderItem('a/b')], 'ENOENT', /folder a\/b/],
    'a set-user-id bit': [[fileItem('f', 0, { mode: 0o4755 })], 'EBADMSG', /other bits than permissions/],
    'a device as a mode': [[fileItem('f', 0, { mode: 0o20644 })], 'EBADMSG', /other bits/],
    'a sticky folder': [[folderItem('f', { mode: 0o1777 })], 'EBADMSG', /other bits/],
    'another owner': [[folderItem('f', { owner: 2 })], 'EBADMSG', /owner/],
    'a wrong id': [[file, chunkItem(text, 'C', { id: idOf(page(1)) })], 'EBADMSG', /not those of its id/],
    'a frame that becomes more': [
      [file, chunkItem(text, 'C', { codec: 2, stored: pack(Buffer.alloc(MiB)) })],
      'EBADMSG',
      /bytes are damaged/,
    ],
    'a frame that becomes less': [
      [file, chunkItem(text, 'C', { codec: 2, stored: pack(text.subarray(1)) })],
      'EBADMSG',
      /bytes are damaged/,
    ],
    'raw bytes that are more': [[file, chunkItem(text, 'C', { pages: 3 })], 'EBADMSG', /as many/],
    'no pages': [[file, chunkItem(text, 'C', { pages: 0 })], 'EBADMSG', /header is damaged/],
    'seventeen pages': [[file, chunkItem(text, 'C', { pages: 17 })], 'EBADMSG', /header is damaged/],
    'a codec that is unknown': [[file, chunkItem(text, 'C', { codec: 3 })], 'EBADMSG', /header is damaged/],
    'too many pages': [[fileItem('f', 4096), chunk], 'EBADMSG', /part of the file f.*fewer pages/],
    'pages after a file': [[file, chunk, zerosItem(1)], 'EBADMSG', /no file/],
    'too few pages': [[file, zerosItem(3)], 'EBADMSG', /not complete \(f\)/],
    'too few pages before another': [[file, folderItem('a')], 'EBADMSG', /not complete/],
    'a chunk of no file': [[chunk], 'EBADMSG', /no file/],
    'something behind the end of a file': [
      [fileItem('f', text.length - 1), chunk],
      'EBADMSG',
      /filled up with zeros/,
    ],
    'too many bytes': [[fileItem('f', 2 ** 63)], 'EBADMSG', /more bytes/],
    'memory that nobody wants': [[chunkItem(text, 'P')], 'EBADMSG', /no folder for packs/],
    'an unknown kind': [[Buffer.concat([Buffer.from('Q\0\0\0'), u32(0)])], 'EBADMSG', /no kind/],
    'what only export writes': [[Buffer.concat([Buffer.from('L\0\0\0'), u32(48)])], 'EBADMSG', /no kind/],
    'a length beyond everything': [
      [Buffer.concat([Buffer.from('D\0\0\0'), u32(0xffffffff)])],
      'EBADMSG',
      /length/,
    ],
    'a header with something in it': [
      [Buffer.concat([Buffer.from('Z\0\0\x01'), u32(4, 1)])],
      'EBADMSG',
      /header is damaged/,
    ],
  };

  it.each(Object.entries(hostile))('refuses %s', async (_, [items, code, what]) => {
    const done = await importStream(into, Buffer.concat(items));
    expect(done).toMatchObject({ code: 1, event: { event: 'error', code, what } });
    expect(await readdir(folder)).toEqual(['into']);
  });

  it('refuses a stream that ends anywhere but between items', async () => {
    const packed = chunkItem(Buffer.alloc(pageBytes, 'a'), 'C', {
      codec: 2,
      stored: pack(Buffer.alloc(pageBytes, 'a')),
    });
    const items = [folderItem('a'), fileItem('a/f', pageBytes), packed, linkItem('a/l', 'f')];
    const whole = Buffer.concat(items);
    let at = 0;
    const ends = items.map((each) => {
      at += each.length;
      return at;
    });
    const mayEnd = new Set([0, ends[0], ends[2], ends[3]]);
    const cut = async (length: number) => {
      const own = join(folder, String(length));
      await mkdir(own);
      const { code, event } = await importStream(own, whole.subarray(0, length));
      return [length, code, event.event];
    };
    for (let from = 0; from <= whole.length; from += 8) {
      const lengths = Array.from({ length: 8 }, (_, index) => from + index).filter(
        (length) => length <= whole.length,
      );
      expect(await Promise.all(lengths.map(cut))).toEqual(
        lengths.map((length) => (mayEnd.has(length) ? [length, 0, 'done'] : [length, 1, 'error'])),
      );
    }
  });

  it('says that the disk is full', async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'torpor-test', into]);
    try {
      const bytes = randomBytes(65_536, 1);
      const whole = Buffer.concat([fileItem('f', 6 * bytes.length), ...Array(6).fill(chunkItem(bytes))]);
      const done = await importStream(into, whole);
      expect(done).toMatchObject({ code: 1, event: { code: 'ENOSPC', what: /part of the file f/ } });
    } finally {
      execFileSync('umount', [into]);
    }
  });
});

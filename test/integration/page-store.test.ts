/** The page store: what CRIU sends is kept, shared, found again and tidied, and what cannot be is refused by name. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  commit,
  digestRead,
  digestSent,
  dstId,
  PagesProgram,
  pageBytes,
  randomBytes,
  readBack,
  readIdx,
  readPagemap,
  receive,
  runPages,
  type SentImage,
  snapshotOf,
  stageOf,
  startReceive,
  textBytes,
  usePrograms,
  writeUnfetched,
} from '../support/page-store.ts';

const MiB = 1 << 20;
const base = 0x7f00_0000_0000;
let folder: string;
let store: string;

beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-page-store-');
  store = join(folder, 'store');
  await mkdir(store);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Every kind of memory: random, like text, zeros, the same again, in many small mappings, and shared. */
function everyKind(seed: number): SentImage[] {
  const same = randomBytes(64 * 1024, seed + 1);
  const small = Array.from({ length: 700 }, (_, index) => ({
    vaddr: base + 64 * MiB + index * 5 * pageBytes,
    bytes: randomBytes((1 + (index % 3)) * pageBytes, seed + 100 + index),
    flags: index % 2 ? 4 : 6,
  }));
  return [
    {
      id: 4711,
      kind: 1,
      runs: [
        { vaddr: 0x5555_0000_3000, bytes: textBytes(3 * MiB, seed + 2) },
        { vaddr: base, bytes: randomBytes(5 * MiB + 3 * pageBytes, seed) },
        { vaddr: base + 16 * MiB, bytes: Buffer.alloc(2 * MiB) },
        { vaddr: base + 32 * MiB, bytes: Buffer.concat(Array.from({ length: 20 }, () => same)) },
        ...small,
      ],
    },
    { id: 4712, kind: 1, runs: [] },
    {
      id: 9,
      kind: 2,
      runs: [
        { vaddr: 0, bytes: textBytes(MiB, seed + 3), flags: 4 },
        { vaddr: 8 * MiB, bytes: same, flags: 4 },
      ],
    },
  ];
}

const packNames = async () => (await readdir(join(store, 'packs'))).filter((name) => name.endsWith('.pack'));

async function flip(path: string, offset: number): Promise<void> {
  const bytes = await readFile(path);
  bytes.writeUInt8(bytes.readUInt8(offset) ^ 0x40, offset);
  await writeFile(path, bytes);
}

async function removeSnapshot(id: string): Promise<void> {
  await rm(snapshotOf(store, id), { recursive: true });
}

describe('what CRIU sends', () => {
  for (const codec of ['raw', 'lz4', 'zstd', 'auto'])
    it(`comes back as it was, stored with ${codec}`, async () => {
      const images = everyKind(1);
      const done = await receive(store, 'one', images, { args: ['--codec', codec] });
      expect(await digestRead(store, 'one')).toEqual(digestSent(images));
      expect(done).toMatchObject({ images: 3, zeroPages: 512, parentPages: 0 });
      // One of the twenty windows that are the same, and not again for the shared memory.
      expect(done.knownChunks).toBe(20);
      if (codec !== 'auto') expect(done.codec).toBe(codec);
      if (codec === 'zstd') expect(done.writtenBytes).toBeLessThan(0.85 * done.rawBytes);
    });

  it('is listed in images that CRIU reads', async () => {
    const images = everyKind(2);
    await receive(store, 'one', images);
    const read = await readBack(store, 'one');
    for (const [index, image] of images.entries()) {
      const name = image.kind === 1 ? `pagemap-${image.id}.img` : `pagemap-shmem-${image.id}.img`;
      const [head, ...entries] = await readPagemap(join(snapshotOf(store, 'one'), 'images', name));
      expect(head).toEqual(new Map([[1, read[index]?.pagesId]]));
      expect(entries).toEqual(
        image.runs.map((run) => {
          const pages = run.bytes.length / pageBytes;
          return new Map([
            [1, run.vaddr],
            [2, pages],
            [4, run.flags ?? 6],
            [5, pages],
          ]);
        }),
      );
    }
  });

  it('is found again as shared memory that is counted anew, and not taken for another one', async () => {
    const segments = [11, 12, 13].map((seed) => randomBytes(4 * MiB, seed));
    const empty = Buffer.alloc(4 * MiB);
    const counted = (first: number, all: readonly Buffer[]): SentImage[] =>
      all.map((bytes, index) => ({ id: first + index, kind: 2, runs: [{ vaddr: 0, bytes, flags: 4 }] }));
    await receive(store, 'one', counted(70, [...segments, empty]), { args: ['--codec', 'raw'] });
    const [one, two, three] = segments.map((bytes) => Buffer.from(bytes));
    if (one === undefined || two === undefined || three === undefined) throw new Error('no segments');
    for (let page = 0; page < 1024; page += 16) one.writeUInt32LE(page, page * pageBytes + 100);
    // Zeros come first in it now.
    two.fill(0, 0, 32 * pageBytes);
    const foreign = randomBytes(4 * MiB, 14);
    // By the number that another one had before.
    const after = counted(72, [empty, foreign, three, two, one]);
    const done = await receive(store, 'two', after, {
      args: ['--codec', 'raw', '--parent', snapshotOf(store, 'one')],
    });
    expect(done).toMatchObject({ zeroPages: 1024 + 32, parentPages: 1024 + (1024 - 32) + (1024 - 64) });
    expect(await digestRead(store, 'two')).toEqual(digestSent(after));
  });

  it('is written once if nothing has changed since, and only what has changed else', async () => {
    const bytes = randomBytes(16 * MiB, 3);
    const before: SentImage[] = [{ id: 1, kind: 1, runs: [{ vaddr: base, bytes }] }];
    await receive(store, 'one', before, { args: ['--codec', 'raw'] });
    const same = await receive(store, 'two', before, { args: ['--parent', snapshotOf(store, 'one')] });
    expect(same).toMatchObject({ newChunks: 0, writtenBytes: 0, parentPages: 4096 });

    const changed = Buffer.from(bytes);
    for (let page = 7; page < 4096; page += 20) changed.writeUInt32LE(page, page * pageBytes + 100);
    const after: SentImage[] = [{ id: 1, kind: 1, runs: [{ vaddr: base, bytes: changed }] }];
    const done = await receive(store, 'three', after, {
      args: ['--codec', 'raw', '--parent', snapshotOf(store, 'two')],
    });
    expect(done).toMatchObject({ parentPages: 4096 - 205, rawBytes: 205 * pageBytes });
    expect(done.writtenBytes).toBeLessThan(205 * pageBytes * 1.02);
    expect(await digestRead(store, 'three')).toEqual(digestSent(after));
    await removeSnapshot('one');
    expect(await digestRead(store, 'three')).toEqual(digestSent(after));
  });

  it('is found again without a parent, window by window', async () => {
    const bytes = randomBytes(4 * MiB, 4);
    await receive(store, 'one', [{ id: 1, kind: 1, runs: [{ vaddr: base, bytes }] }]);
    const elsewhere: SentImage[] = [{ id: 2, kind: 1, runs: [{ vaddr: base + 999 * MiB, bytes }] }];
    expect(await receive(store, 'two', elsewhere)).toMatchObject({ newChunks: 0, knownChunks: 64 });
    expect(await digestRead(store, 'two')).toEqual(digestSent(elsewhere));
  });

  it('is completed by what was never fetched, which is not read', async () => {
    const bytes = randomBytes(MiB, 5);
    const zeros = Buffer.alloc(8 * pageBytes);
    await receive(store, 'one', [
      { id: 1, kind: 1, runs: [{ vaddr: base, bytes: Buffer.concat([bytes, zeros]) }] },
      { id: 2, kind: 1, runs: [{ vaddr: base, bytes: randomBytes(MiB, 6) }] },
    ]);
    const list = join(folder, 'unfetched');
    await writeUnfetched(list, [
      // What CRIU has sent meanwhile counts: pages 40 to 59, and 256.
      { dstId: dstId({ id: 1, kind: 1 }), vaddr: base + 10 * pageBytes, pages: 90, firstPage: 10 },
      { dstId: dstId({ id: 1, kind: 1 }), vaddr: base + 200 * pageBytes, pages: 64, firstPage: 200 },
      // A process that has ended.
      { dstId: dstId({ id: 2, kind: 1 }), vaddr: base, pages: 256, firstPage: 264 },
      // Moved, and forked: its pages are those of process 1.
      { dstId: dstId({ id: 3, kind: 1 }), vaddr: 0x10_0000, pages: 16, firstPage: 0 },
    ]);
    const fresh = randomBytes(21 * pageBytes, 7);
    const sent: SentImage[] = [
      {
        id: 1,
        kind: 1,
        runs: [
          { vaddr: base + 40 * pageBytes, bytes: fresh.subarray(0, 20 * pageBytes) },
          { vaddr: base + 256 * pageBytes, bytes: fresh.subarray(20 * pageBytes) },
        ],
      },
      { id: 3, kind: 1, runs: [] },
    ];
    const done = await receive(store, 'two', sent, {
      go: `go unfetched ${list}`,
      args: ['--parent', snapshotOf(store, 'one')],
    });
    expect(done).toMatchObject({ unfetchedPages: 70 + 63 + 16, pages: 70 + 63 + 16 + 21, newChunks: 3 });
    const part = (from: number, to: number) => ({
      vaddr: base + from * pageBytes,
      bytes: Buffer.concat([bytes, zeros]).subarray(from * pageBytes, to * pageBytes),
    });
    const [first] = sent;
    expect(await digestRead(store, 'two')).toEqual(
      digestSent([
        {
          id: 1,
          kind: 1,
          runs: [part(10, 40), ...(first?.runs ?? []).slice(0, 1), part(60, 100), part(200, 256)]
            .concat((first?.runs ?? []).slice(1))
            .concat([part(257, 264)]),
        },
        { id: 3, kind: 1, runs: [{ vaddr: 0x10_0000, bytes: bytes.subarray(0, 16 * pageBytes) }] },
      ]),
    );
  });

  it('is streamed: 2 GiB pass through less than 64 MiB of memory', async () => {
    await mkdir(stageOf(store, 'big'), { recursive: true });
    using program = startReceive(store, 'big', ['--threads', '8', '--codec', 'lz4']);
    program.child.stdin?.write('go\n');
    const image = { id: 1, kind: 1 } as const;
    await program.openImage(image);
    const bytes = Buffer.concat([randomBytes(8 * MiB, 8), textBytes(24 * MiB, 9)]);
    let most = 0;
    for (let part = 0; part < 64; part++) {
      for (let at = 0; at < bytes.length; at += pageBytes) bytes.writeUInt32LE(part, at);
      await program.sendRun(image, base + part * bytes.length, bytes);
      const status = await readFile(`/proc/${program.child.pid}/status`, 'utf8');
      most = Math.max(most, Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]));
    }
    await program.close();
    expect(await program.ended).toBe(0);
    expect(program.last).toMatchObject({ event: 'done', pages: 524_288 });
    expect(most).toBeGreaterThan(1024);
    expect(most).toBeLessThan(64 * 1024);
    // At most ten a second, and more than none.
    const progress = program.events.filter(({ event }) => event === 'progress');
    expect(progress.length).toBeGreaterThan(2);
    expect(program.events.some(({ event }) => event === 'received')).toBe(true);
  });
});

describe('a receiver that cannot go on', () => {
  async function failing(act: (program: PagesProgram) => Promise<unknown>, args: string[] = [], go = 'go') {
    await mkdir(stageOf(store, 'bad'), { recursive: true });
    using program = startReceive(store, 'bad', args);
    program.child.stdin?.write(`${go}\n`);
    await act(program).catch(() => {});
    expect(await program.ended).toBe(1);
    return program.last;
  }
  const image = { id: 1, kind: 1 } as const;

  it('names what CRIU must not send', async () => {
    const refused = async (code: string, what: RegExp, act: (program: PagesProgram) => Promise<unknown>) => {
      await rm(stageOf(store, 'bad'), { recursive: true, force: true });
      const error = await failing(act);
      expect(error).toMatchObject({ event: 'error', code });
      expect(error.what).toMatch(what);
    };
    const request = (command: number, fields: object) => async (program: PagesProgram) => {
      await program.openImage(image);
      program.request(command, { dstId: dstId(image), ...fields });
    };
    const add = 6 | (6 << 16);
    await refused('EPROTO', /cannot be/, request(add, { pages: 2 ** 53, vaddr: base }));
    await refused('EPROTO', /cannot be/, request(add, { pages: 0, vaddr: base }));
    await refused('EPROTO', /cannot be/, request(add, { pages: 1, vaddr: base + 5 }));
    await refused('EPROTO', /flags 1/, request(6 | (1 << 16), { pages: 1, vaddr: base }));
    await refused('EPROTO', /not opened/, request(add, { pages: 1, vaddr: base, dstId: 513 }));
    await refused('EPROTO', /command \(0x63\)/, request(99, {}));
    await refused('EPROTO', /kind \(7\)/, request(4, { dstId: 7 }));
    await refused('EPROTO', /second time/, request(4, {}));
    await refused('EPROTO', /ascending/, async (program) => {
      await program.openImage(image);
      await program.sendRun(image, base + MiB, Buffer.alloc(pageBytes));
      await program.sendRun(image, base, Buffer.alloc(pageBytes));
    });
    await refused('ECONNRESET', /CRIU closed/, async (program) => {
      await program.openImage(image);
      program.request(add, { pages: 10, vaddr: base, dstId: dstId(image) });
      program.socket.end(Buffer.alloc(5 * pageBytes + 17));
    });
    await refused('ECONNRESET', /CRIU closed/, async (program) => {
      program.socket.end(Buffer.alloc(7));
    });
  });

  it('names what the engine must not say', async () => {
    expect(await failing((program) => program.openImage(image), [], 'stop')).toMatchObject({
      code: 'EPROTO',
    });
    await rm(stageOf(store, 'bad'), { recursive: true });
    const list = join(folder, 'unfetched');
    await writeUnfetched(list, [{ dstId: 257, vaddr: base, pages: 1, firstPage: 0 }]);
    const noParent = await failing((program) => program.openImage(image), [], `go unfetched ${list}`);
    expect(noParent).toMatchObject({ code: 'EINVAL', what: expect.stringContaining('--parent') });
    expect(await runPages(['receive', '--store', store])).toMatchObject({ code: 'EINVAL' });
    expect(await runPages(['receive', '--nonsense', '1'])).toMatchObject({ code: 'EINVAL' });
  });

  it('does without a parent that is damaged, unless what was not fetched is there only', async () => {
    const images: SentImage[] = [{ ...image, runs: [{ vaddr: base, bytes: randomBytes(MiB, 10) }] }];
    await receive(store, 'one', images);
    const list = join(folder, 'unfetched');
    for (const name of ['entries', 'places', 'hashes', 'chunks']) {
      const parent = join(folder, `parent-${name}`);
      await cp(snapshotOf(store, 'one'), parent, { recursive: true });
      await truncate(join(parent, 'pages', name), (await stat(join(parent, 'pages', name))).size - 16);
      expect(await receive(store, `two-${name}`, images, { args: ['--parent', parent] })).toMatchObject({
        parentPages: name === 'chunks' ? expect.anything() : 0,
        newChunks: 0,
      });
      await rm(stageOf(store, 'bad'), { recursive: true, force: true });
      await writeUnfetched(list, [{ dstId: 257, vaddr: base, pages: 256, firstPage: 0 }]);
      const error = await failing(
        async (program) => {
          await program.openImage(image);
          await program.close();
        },
        ['--parent', parent],
        `go unfetched ${list}`,
      );
      expect(error).toMatchObject({ event: 'error' });
    }
    await rm(stageOf(store, 'bad'), { recursive: true, force: true });
    await writeUnfetched(list, [{ dstId: 257, vaddr: base, pages: 257, firstPage: 0 }]);
    const parent = ['--parent', snapshotOf(store, 'one')];
    const beyond = await failing((program) => program.openImage(image), parent, `go unfetched ${list}`);
    expect(beyond).toMatchObject({ code: 'EINVAL', what: expect.stringContaining('range 0') });
    // The chunks are gone: what nobody has must not be promised.
    await rm(stageOf(store, 'bad'), { recursive: true, force: true });
    for (const name of await readdir(join(store, 'packs'))) await rm(join(store, 'packs', name));
    await writeUnfetched(list, [{ dstId: 257, vaddr: base, pages: 256, firstPage: 0 }]);
    const lost = await failing(
      async (program) => {
        await program.openImage(image);
        await program.close();
      },
      parent,
      `go unfetched ${list}`,
    );
    expect(lost).toMatchObject({ code: 'EIO', what: expect.stringContaining('in no pack') });
  });

  it('stores again what the parent has, if no pack has it any more', async () => {
    const images: SentImage[] = [{ ...image, runs: [{ vaddr: base, bytes: randomBytes(MiB, 11) }] }];
    await receive(store, 'one', images);
    for (const name of await readdir(join(store, 'packs'))) await rm(join(store, 'packs', name));
    const done = await receive(store, 'two', images, { args: ['--parent', snapshotOf(store, 'one')] });
    expect(done).toMatchObject({ parentPages: 0, newChunks: 16 });
    expect(await digestRead(store, 'two')).toEqual(digestSent(images));
  });

  it('harms nothing when it is killed at any moment', async () => {
    const images: SentImage[] = [{ ...image, runs: [{ vaddr: base, bytes: randomBytes(8 * MiB, 12) }] }];
    await receive(store, 'one', images);
    for (const parts of [0, 1, 5, 20, 31]) {
      const id = `killed-${parts}`;
      await mkdir(stageOf(store, id), { recursive: true });
      using program = startReceive(store, id);
      program.child.stdin?.write('go\n');
      await program.openImage(image);
      for (let part = 0; part < parts; part++)
        await program.sendRun(image, base + part * MiB, randomBytes(MiB, 1000 + part));
      program.child.kill('SIGKILL');
      await program.ended;
      expect(program.events.some(({ event }) => event === 'done')).toBe(false);
    }
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
    // What they had written by then is in nobody's way, and goes with the next sweep.
    expect(await runPages(['sweep', '--store', store])).toMatchObject({ event: 'done', skipped: [] });
    expect(await packNames()).toHaveLength(1);
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
  });

  it('says that the disk is full', async () => {
    const small = join(folder, 'small');
    await mkdir(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'torpor-page-store', small]);
    try {
      const stage = join(small, 'staging/full');
      await mkdir(stage, { recursive: true });
      using program = startReceive(small, 'full', ['--codec', 'raw']);
      program.child.stdin?.write('go\n');
      await program.openImage(image);
      for (let part = 0; part < 32; part++) {
        if (program.child.exitCode !== null) break;
        await program.sendRun(image, base + part * MiB, randomBytes(MiB, part));
      }
      expect(await program.ended).toBe(1);
      expect(program.last).toMatchObject({ code: 'ENOSPC', what: expect.stringContaining('/packs/') });
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

describe('the packs', () => {
  const image = { id: 1, kind: 1 } as const;
  const random = (seed: number, mib = 4): SentImage[] => [
    { ...image, runs: [{ vaddr: base, bytes: randomBytes(mib * MiB, seed) }] },
  ];
  const sweep = (...args: string[]) => runPages(['sweep', '--store', store, ...args]);

  it('are listed anew if an .idx is lost, cut short, changed or of another pack', async () => {
    const images = everyKind(20);
    await receive(store, 'one', images);
    const [pack = ''] = await packNames();
    const idx = join(store, 'packs', pack.replace('.pack', '.idx'));
    const right = await readFile(idx);
    const harms: (() => Promise<unknown>)[] = [
      () => rm(idx),
      () => truncate(idx, 100),
      () => truncate(idx, 0),
      () => flip(idx, 20),
      () => flip(idx, 200),
      () => flip(idx, right.length - 1),
    ];
    for (const harm of harms) {
      await harm();
      expect(await sweep('--check')).toMatchObject({ event: 'done', skipped: [] });
      expect(await readFile(idx)).toEqual(right);
    }
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
    expect(await readdir(join(store, 'packs'))).toHaveLength(2);
  });

  it('are refused by name where a record is damaged, and the others still serve', async () => {
    const [bad, good] = [random(21), random(22)];
    await receive(store, 'bad', bad);
    const [pack = ''] = await packNames();
    await receive(store, 'good', good);
    const path = join(store, 'packs', pack);
    const entries = (await readIdx(path.replace('.pack', '.idx'))).sort((a, b) => a.offset - b.offset);
    const third = entries[2]?.offset ?? 0;
    await flip(path, third + 8);
    await rm(path.replace('.pack', '.idx'));
    const named = expect.stringContaining(`packs/${pack} is damaged at offset ${third}`);
    expect(await sweep()).toMatchObject({ skipped: [named] });
    expect(await runPages(['recompress', '--store', store])).toMatchObject({ skipped: [named] });
    expect(await packNames()).toHaveLength(2);
    expect(await digestRead(store, 'good').catch((error: Error) => error.message)).toMatch(
      /idx|no such file/,
    );
    // Neither does something that is no pack at all.
    await mkdir(join(store, 'packs', `${'0'.repeat(32)}.pack`));
    expect(await sweep()).toMatchObject({
      skipped: expect.arrayContaining([expect.stringMatching(/0{32}.*no file/)]),
    });
    // What the damaged one has besides is still known, and what it lacks is stored again.
    expect(await receive(store, 'again', bad)).toMatchObject({ newChunks: 1, knownChunks: 63 });
  });

  it('are removed when no snapshot needs them, and made smaller when little of them is needed', async () => {
    const [first, second, third] = [random(23), random(24), random(25)];
    await receive(store, 'one', first);
    await receive(store, 'two', second);
    // Of its one pack, the next snapshot needs the smaller part.
    const both = [...random(26, 16), { ...third[0], id: 2 } as SentImage];
    await receive(store, 'three', both, { args: ['--codec', 'raw'] });
    const kept: SentImage[] = [{ ...third[0], id: 2 } as SentImage];
    await receive(store, 'four', kept);
    await removeSnapshot('two');
    await removeSnapshot('three');
    const dead = await sweep('--check');
    expect(dead).toMatchObject({ skipped: [] });
    // What would be freed.
    expect(dead.freedBytes).toBeGreaterThan(10 * MiB);
    expect(dead.deadBytes).toBeGreaterThan(20 * MiB);
    expect(await packNames()).toHaveLength(3);
    await writeFile(join(store, 'packs', '0123.pack.new'), 'left over');
    const swept = await sweep();
    expect(swept.freedBytes).toBeGreaterThan(20 * MiB);
    expect(swept).toMatchObject({ deadBytes: 0, skipped: [] });
    expect((await readdir(join(store, 'packs'))).sort()).toEqual(
      (await packNames()).flatMap((name) => [name.replace('.pack', '.idx'), name]).sort(),
    );
    expect(await packNames()).toHaveLength(2);
    expect(await digestRead(store, 'one')).toEqual(digestSent(first));
    expect(await digestRead(store, 'four')).toEqual(digestSent(kept));
    expect(await sweep()).toMatchObject({ freedBytes: 0 });
    await removeSnapshot('one');
    await removeSnapshot('four');
    await sweep();
    expect(await readdir(join(store, 'packs'))).toEqual([]);
  });

  it('are all kept while there is a snapshot that cannot be read', async () => {
    await receive(store, 'one', random(27));
    await receive(store, 'two', random(28));
    const chunks = join(snapshotOf(store, 'two'), 'pages', 'chunks');
    await truncate(chunks, 32);
    await removeSnapshot('one');
    for (const harm of [
      async () => {},
      () => rm(chunks),
      () => rm(join(snapshotOf(store, 'two'), 'pages'), { recursive: true }),
    ]) {
      await harm();
      expect(await sweep()).toMatchObject({
        freedBytes: 0,
        skipped: [expect.stringContaining('snapshots/two')],
      });
      expect(await packNames()).toHaveLength(2);
    }
    // A snapshot of the first version needs none.
    await mkdir(join(snapshotOf(store, 'two'), 'images'), { recursive: true });
    await writeFile(join(snapshotOf(store, 'two'), 'images', 'pages-1.img'), Buffer.alloc(pageBytes));
    expect(await sweep()).toMatchObject({ skipped: [] });
    expect(await packNames()).toHaveLength(0);
  });

  it('keep a needed chunk that is in two of them once', async () => {
    const images = random(29);
    await receive(store, 'one', images);
    const elsewhere = join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await receive(elsewhere, 'same', images);
    await cp(join(elsewhere, 'packs'), join(store, 'packs'), { recursive: true });
    const swept = await sweep();
    expect(swept.freedBytes).toBeGreaterThan(4 * MiB);
    expect(await packNames()).toHaveLength(1);
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
  });

  it('become small in the background with the same content', async () => {
    const images = everyKind(30);
    await receive(store, 'one', images, { args: ['--codec', 'lz4'] });
    await receive(store, 'two', everyKind(31), { args: ['--codec', 'raw'] });
    await receive(store, 'three', random(32), { args: ['--codec', 'raw'] });
    const done = await runPages(['recompress', '--store', store]);
    expect(done).toMatchObject({ event: 'done', packs: 2, stopped: false, skipped: [] });
    expect(done.bytesAfter).toBeLessThan(0.9 * Number(done.bytesBefore));
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
    expect(await digestRead(store, 'two')).toEqual(digestSent(everyKind(31)));
    expect(await packNames()).toHaveLength(3);
    expect(await runPages(['recompress', '--store', store])).toMatchObject({ packs: 0 });
  });

  it('become small also where what cannot recurs at a fixed distance', async () => {
    const window = 64 * 1024;
    const parts = Array.from({ length: 96 }, (_, index) =>
      index % 3 === 0 ? randomBytes(window, 100 + index) : textBytes(window, 100 + index),
    );
    const images: SentImage[] = [{ ...image, runs: [{ vaddr: base, bytes: Buffer.concat(parts) }] }];
    await receive(store, 'one', images, { args: ['--codec', 'raw'] });
    expect(await runPages(['recompress', '--store', store])).toMatchObject({ packs: 1, skipped: [] });
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
  });

  it('are as they were when recompression is stopped', async () => {
    const images: SentImage[] = [{ ...image, runs: [{ vaddr: base, bytes: textBytes(48 * MiB, 33) }] }];
    await receive(store, 'one', images, { args: ['--codec', 'raw'] });
    const before = (await readdir(join(store, 'packs'))).sort();
    const stopFile = join(folder, 'stop');
    await writeFile(stopFile, '');
    expect(await runPages(['recompress', '--store', store, '--stop-file', stopFile])).toMatchObject({
      stopped: true,
    });
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      using program = new PagesProgram(['recompress', '--store', store]);
      // It has begun when there is a file of its own.
      await expect
        .poll(async () => (await readdir(join(store, 'packs'))).length)
        .toBeGreaterThan(before.length);
      program.child.kill(signal);
      await program.ended;
      if (signal === 'SIGTERM') {
        expect(program.last).toMatchObject({ event: 'done', packs: 0, stopped: true });
        expect((await readdir(join(store, 'packs'))).sort()).toEqual(before);
      }
    }
    expect(await digestRead(store, 'one')).toEqual(digestSent(images));
    await sweep();
    expect((await readdir(join(store, 'packs'))).sort()).toEqual(before);
  });

  it('are tidied by one at a time', async () => {
    await receive(store, 'one', random(34));
    // Says when it has the lock, and keeps it until its input ends.
    const lock = spawn('flock', [join(store, 'packs'), 'sh', '-c', 'echo; cat']);
    try {
      await once(lock.stdout, 'data');
      for (const command of ['sweep', 'recompress'])
        expect(await runPages([command, '--store', store])).toMatchObject({ code: 'EBUSY' });
    } finally {
      lock.stdin.end();
      await once(lock, 'close');
    }
    expect(await sweep()).toMatchObject({ event: 'done' });
  });
});

describe('under sanitizers', () => {
  beforeAll(() => {
    const native = new URL('../../native', import.meta.url).pathname;
    const out = new URL('../../build/native', import.meta.url).pathname;
    execFileSync('make', ['-s', '-C', native, `OUT=${out}`, 'sanitized'], { stdio: 'inherit' });
  });
  afterEach(() => usePrograms());

  for (const kind of ['asan', 'tsan'] as const)
    it(`${kind}: a snapshot, a second one, recompression and a sweep`, async () => {
      usePrograms(kind);
      const [before, after] = [everyKind(50), everyKind(51)];
      const mixed = [...before.slice(0, 2), ...after.slice(2)];
      await receive(store, 'one', before, { args: ['--threads', '4'] });
      await receive(store, 'two', mixed, {
        args: ['--threads', '4', '--codec', 'lz4', '--parent', snapshotOf(store, 'one')],
      });
      expect(await runPages(['recompress', '--store', store])).toMatchObject({ event: 'done', skipped: [] });
      await removeSnapshot('one');
      expect(await runPages(['sweep', '--store', store])).toMatchObject({ event: 'done', skipped: [] });
      expect(await digestRead(store, 'two')).toEqual(digestSent(mixed));
    });
});

describe('speeds', () => {
  it('are measured and decide how pages are stored', async () => {
    const file = join(folder, 'speeds');
    const measured = await runPages(['measure', '--store', store, '--speeds', file]);
    expect(measured).toMatchObject({ event: 'done', speeds: { sha256: expect.any(Number) } });
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual(measured.speeds);
    expect(await readdir(store)).toEqual([]);

    const text: SentImage[] = [{ id: 1, kind: 1, runs: [{ vaddr: base, bytes: textBytes(8 * MiB, 40) }] }];
    const cores = { sha256: 1500, lz4: 700, lz4Ratio: 0.5, zstd: 400, zstdRatio: 0.3 };
    for (const [direct, codec] of [
      [20, 'zstd'],
      [1_000_000, 'raw'],
    ] as const) {
      await writeFile(file, JSON.stringify({ direct, ...cores }));
      const done = await receive(store, codec, text, { args: ['--speeds', file] });
      expect(done.codec).toBe(codec);
      expect(JSON.parse(await readFile(file, 'utf8')).zstdRatio).not.toBe(cores.zstdRatio);
      await removeSnapshot(codec);
      await runPages(['sweep', '--store', store]);
    }
    // Through the page cache, where that is the faster way.
    await writeFile(file, JSON.stringify({ direct: 10, buffered: 1000, ...cores }));
    await receive(store, 'buffered', text, { args: ['--codec', 'raw', '--speeds', file] });
    expect(await digestRead(store, 'buffered')).toEqual(digestSent(text));
    expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ direct: 10 });
    for (const nonsense of ['', '{"direct":-5,"sha256":nan,"lz4":1e999}', '\0\0\0']) {
      await writeFile(file, nonsense);
      const id = `nonsense-${nonsense.length}`;
      await receive(store, id, text, { args: ['--speeds', file] });
      expect(await digestRead(store, id)).toEqual(digestSent(text));
    }
    await commitNothing();
  });

  /** A workload without a page of its own is a snapshot, too. */
  async function commitNothing() {
    await mkdir(stageOf(store, 'empty'), { recursive: true });
    using program = startReceive(store, 'empty');
    await program.close();
    expect(await program.ended).toBe(0);
    expect(program.last).toMatchObject({ event: 'done', images: 0, pages: 0, chunks: 0, writtenBytes: 0 });
    await commit(store, 'empty');
    expect(await readBack(store, 'empty')).toEqual([]);
  }
});

/** Both forms of a bundle by one suite: what must hold whatever befalls the medium. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Reading } from '../../engine/bundle/medium/reading.ts';
import {
  cheap,
  chunkOf,
  commitTask,
  fileStream,
  filesIn,
  item,
  itemsIn,
  memoryStream,
  noise,
  number32,
  type Outcome,
  passphrase,
  read,
  start,
  tell,
  type WriteOptions,
  write,
  writeTask,
} from '../support/bundle.ts';
import { readBundle } from '../support/bundle-reader.ts';
import { Disk, digestOf, type Loss, random, type Tree, writeTree } from '../support/disk-faults/disk.ts';
import { Recorder } from '../support/disk-faults/recorder.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'torpor-bundle-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const asFile = (list: number, name: string) => ({
  task: 'file',
  list,
  path: name,
  mode: 0o644,
  owner: 'user',
  mtimeNs: '1700000000123456789',
});
const end = { task: 'end' };

const errorOf = (outcome: Outcome) => outcome.last('error');
function expectDone(outcome: Outcome) {
  expect(errorOf(outcome)).toBeUndefined();
  expect(outcome.stderr).toBe('');
  expect(outcome.code).toBe(0);
  return outcome.last('done') ?? outcome.last('checked');
}
function expectRefused(outcome: Outcome, code: string, words: RegExp) {
  expect(outcome.last('done')).toBeUndefined();
  expect(errorOf(outcome)).toMatchObject({ code, message: expect.stringMatching(words) });
  expect(outcome.code).toBe(1);
  expect(outcome.stderr).toBe('');
}

/** Everything below a path, to compare. */
function contentsOf(at: string): string {
  if (!existsSync(at)) return 'nothing';
  if (!statSync(at).isDirectory()) return createHash('sha256').update(readFileSync(at)).digest('hex');
  return readdirSync(at)
    .sort()
    .map((name) => `${name}:${contentsOf(join(at, name))}`)
    .join('\n');
}

const first = noise(1, 150_000);
const second = noise(2, 150_000);

/** What the bundle at this path says when everything is read; what it refuses is refused. */
async function generationOf(
  at: string,
): Promise<{ generation: number; passedOver: number | null } | 'refused'> {
  let reading: Reading;
  try {
    reading = await Reading.open(at, { passphrase }, () => {});
  } catch {
    return 'refused';
  }
  await using opened = reading;
  await opened.check();
  const { generation, passedOver, contents, lists } = opened.opened;
  expect(contents).toEqual({ generation });
  const digest = createHash('sha256')
    .update(generation === 1 ? first : second)
    .digest('hex');
  expect(lists).toEqual([{ bytes: 150_000, sha256: digest, chunks: 3 }]);
  return { generation, passedOver };
}

const writeFirst = (options: WriteOptions = {}) =>
  write(path, fileStream(first), { form, contents: { generation: 1 }, ...options });
const writeSecond = (options: WriteOptions = {}) =>
  write(path, fileStream(second), { form, contents: { generation: 2 }, ...options });

let form: 'file' | 'folder';
describe.each(['file', 'folder'] as const)('a %s', (kind) => {
  beforeEach(() => {
    form = kind;
    path = join(folder, kind === 'file' ? 'session.torpor' : 'session');
  });

  it('gives back what it got, to a second reader too', async () => {
    const big = noise(3, 3_000_000);
    const sparse = Buffer.concat([noise(4, 65536), Buffer.alloc(200_000), noise(5, 10)]);
    const memory = noise(6, 4096 * 40);
    const refused = item('E', number32(7, 13), Buffer.from('cannot be opened'));
    const stream = Buffer.concat([fileStream(big), refused, fileStream(sparse), memoryStream(memory)]);
    const written = await write(path, Buffer.concat([stream, fileStream(Buffer.alloc(0))]), {
      contents: { name: 'Tisch' },
    });
    const done = expectDone(written);
    expect(written.last('ready')).toMatchObject({ isNew: true, generation: 1, form: kind });
    expect(written.events.filter(({ event }) => event === 'list').map(({ source }) => source)).toEqual([
      0, 2, 3, 4,
    ]);
    expect(written.last('unreadable')).toEqual({
      event: 'unreadable',
      source: 1,
      errno: 'EACCES',
      what: 'cannot be opened',
    });
    const outcome = await read(path, [
      { task: 'check' },
      { task: 'folder', path: 'a', mode: 0o755, owner: 'root' },
      { task: 'link', path: 'a/l', target: '../b', owner: 'user' },
      asFile(0, 'big'),
      asFile(2, 'sparse'),
      asFile(4, 'empty'),
      { task: 'memory', list: 3 },
      end,
    ]);
    expectDone(outcome);
    expect(outcome.last('opened')).toMatchObject({
      contents: { name: 'Tisch' },
      passedOver: null,
      bytes: done?.bytes,
      form: kind,
    });
    const files = filesIn(outcome.stream);
    expect(files.get('big')?.equals(big)).toBe(true);
    expect(files.get('sparse')?.equals(sparse)).toBe(true);
    expect(files.get('empty')?.length).toBe(0);
    const items = [...itemsIn(outcome.stream)];
    expect(items.slice(0, 2).map((each) => [each.kind, each.payload.toString('latin1')])).toEqual([
      ['D', '\xed\x01\0\0\0\0\0\0a'],
      ['Y', '\x01\0\0\0\x04\0\0\0../ba/l'],
    ]);
    const pages = items.filter((each) => each.kind === 'P').map(({ payload }) => payload.subarray(36));
    expect(Buffer.concat(pages).equals(memory)).toBe(true);
    const again = await readBundle(path, passphrase);
    expect(again.contents).toEqual({ name: 'Tisch' });
    expect(again.files.map((each) => each?.length)).toEqual([
      3_000_000,
      undefined,
      sparse.length,
      memory.length,
      0,
    ]);
    expect(again.files[0]?.equals(big) && again.files[2]?.equals(sparse)).toBe(true);
  });

  it('is updated by what has changed', async () => {
    const before = noise(3, 2_000_000);
    expectDone(await write(path, fileStream(before), { form }));
    const running = start();
    running.tasks.write(writeTask(path, { form }));
    await running.until('ready');
    const after = Buffer.concat([before.subarray(0, 65536 * 30), noise(8, 60_000)]);
    const known = new Set(
      Array.from({ length: 30 }, (_, index) =>
        chunkOf(before.subarray(index * 65536, (index + 1) * 65536)).id.toString('hex'),
      ),
    );
    running.stream.end(fileStream(after, known));
    running.tasks.end(commitTask({ n: 2 }));
    const outcome = await running.ended;
    const done = expectDone(outcome);
    expect(outcome.known.length).toBe(31 * 32);
    for (const id of known) expect(outcome.known.indexOf(Buffer.from(id, 'hex')) % 32).toBe(0);
    expect(done).toMatchObject({ generation: 2 });
    if (kind === 'folder') expect(done?.written).toBeLessThan(80_000);
    const again = await readBundle(path, passphrase);
    expect(again).toMatchObject({ generation: 2, contents: { n: 2 } });
    expect(again.files[0]?.equals(after)).toBe(true);
  });

  it('keeps no pack that nobody needs, nor one of which little is needed', async () => {
    const old = noise(3, 65536 * 20);
    expectDone(await write(path, fileStream(old), { form }));
    const little = old.subarray(0, 65536 * 3);
    const done = expectDone(await write(path, fileStream(little), { form }));
    expect(done).toMatchObject({ chunks: 3 });
    expect(done?.bytes).toBeLessThan(65536 * 4);
    expect((await readBundle(path, passphrase)).files[0]?.equals(little)).toBe(true);
    expectDone(await read(path, [{ task: 'check' }]));
    expectDone(await write(path, fileStream(noise(9, 65536)), { form }));
    if (kind === 'folder') expect(readdirSync(join(path, 'packs'))).toHaveLength(1);
    expect((await readBundle(path, passphrase)).generation).toBe(3);
  });

  it('is opened by any of its passphrases, however they were typed', async () => {
    expectDone(await writeFirst({ passphrases: ['Schlüssel 1', 'the other one'] }));
    const by = async (secret: string) => (await read(path, [{ task: 'check' }], secret)).code;
    expect(await by('Schlu\u0308ssel 1')).toBe(0);
    expect(await by('the other one')).toBe(0);
    expectRefused(await read(path, [end], 'wrong one'), 'not-permitted', /not a passphrase of the bundle/);
    const change = { task: 'passphrases', path, passphrase: 'the other one', kdf: cheap };
    const changed = await tell({ ...change, add: ['a third one'], remove: ['Schlüssel 1'] });
    expect(changed.last('done')).toMatchObject({ passphrases: 2 });
    expect(await by('a third one')).toBe(0);
    expect(await by('Schlüssel 1')).toBe(1);
    expectRefused(
      await tell({ ...change, remove: ['a third one', 'the other one'] }),
      'usage',
      /last passphrase/,
    );
    expectRefused(await tell({ ...change, add: ['short'] }), 'usage', /fewer than 8/);
    expectDone(await writeSecond({ passphrases: ['a third one', 'and a fourth'] }));
    expect(await by('and a fourth')).toBe(0);
    expect((await readBundle(path, 'the other one')).generation).toBe(2);
  });

  it('is refused where it is of a later version', async () => {
    expectDone(await writeFirst());
    const headerPath = kind === 'file' ? path : join(path, 'header.torpor');
    const bytes = readFileSync(headerPath);
    bytes.writeUInt32LE(2, 8);
    createHash('sha256').update(bytes.subarray(0, 4064)).digest().copy(bytes, 4064);
    writeFileSync(headerPath, bytes);
    const before = contentsOf(path);
    expectRefused(await read(path, [end]), 'failed', /has version 2, and this Torpor knows version 1/);
    expectRefused(await writeSecond(), 'failed', /has version 2/);
    expect(contentsOf(path)).toBe(before);
  });

  it.each([
    ['an unknown kind', item('X', Buffer.alloc(50))],
    ['an end within an item', fileStream(noise(1, 5000)).subarray(0, -1)],
  ])('takes no stream with %s', async (_name, stream) => {
    expectDone(await writeFirst());
    const before = contentsOf(folder);
    expectRefused(
      await write(path, stream, { form, contents: { generation: 2 } }),
      'failed',
      /other end of torpor-bundle's stream is at fault/,
    );
    expect(contentsOf(folder)).toBe(before);
  });

  it('is as it was after a SIGTERM, and after an export that was given up', async () => {
    expectDone(await writeFirst());
    const before = contentsOf(folder);
    const running = start();
    running.tasks.write(writeTask(path, { form }));
    await running.until('ready');
    running.stream.write(noisyStream());
    await running.until('progress');
    running.child.kill('SIGTERM');
    expect((await running.ended).code).toBe(143);
    expect(contentsOf(folder)).toBe(before);
    const other = start();
    other.tasks.end(writeTask(path, { form }));
    other.stream.end(noisyStream());
    expectRefused(await other.ended, 'failed', /given up before its end/);
    expect(contentsOf(folder)).toBe(before);
  });

  it('is there, and says that a newer one is not, after a kill', async () => {
    const interrupted = async () => {
      const running = start();
      running.tasks.write(writeTask(path, { form }));
      await running.until('ready');
      running.stream.write(noisyStream());
      await running.until('progress');
      running.child.kill('SIGKILL');
      await running.ended;
    };
    await interrupted();
    expectRefused(await read(path, [end]), 'failed', /is incomplete/);
    expectDone(await writeFirst({ passphrases: [passphrase] }));
    await interrupted();
    expect(await generationOf(path)).toEqual({ generation: 1, passedOver: 2 });
    const done = expectDone(await writeSecond());
    // Its number is one that no interrupted one has had.
    expect(done?.generation).toBe(3);
    expectDone(await read(path, [{ task: 'check' }]));
    expect((await readBundle(path, passphrase)).files[0]?.equals(second)).toBe(true);
    if (kind === 'folder') expect(readdirSync(join(path, 'packs'))).toHaveLength(1);
    else expect(readdirSync(folder)).toEqual(['session.torpor']);
  });

  it('is written by one at a time', async () => {
    const running = start();
    running.tasks.write(writeTask(path, { form }));
    await running.until('ready');
    expectRefused(await writeFirst(), 'blocked', /Another export is writing/);
    running.tasks.end(commitTask({ generation: 1 }));
    running.stream.end(fileStream(first));
    expectDone(await running.ended);
    expect(await generationOf(path)).toEqual({ generation: 1, passedOver: null });
  });

  it('stays where the medium is full, or can only be read', async () => {
    const small = join(folder, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'torpor-bundle', small]);
    try {
      path = join(small, kind === 'file' ? 'session.torpor' : 'session');
      expectDone(await writeFirst());
      const before = contentsOf(small);
      const full = await write(path, fileStream(noise(3, 5_000_000)), { form, contents: { generation: 2 } });
      expectRefused(full, 'failed', /no room left for the bundle/);
      expectRefused(await writeSecond({ expectedBytes: 9_000_000 }), 'failed', /needs 9 MiB, and only 2 MiB/);
      expect(contentsOf(small)).toBe(before);
      execFileSync('mount', ['-o', 'remount,ro', small]);
      expect(await generationOf(path)).toEqual({ generation: 1, passedOver: null });
      expectDone(await read(path, [{ task: 'check' }]));
      expectRefused(await writeSecond(), 'failed', /can only be read/);
    } finally {
      execFileSync('umount', [small]);
    }
  });

  it('survives a loss of power at any write', async () => {
    using recorder = new Recorder(folder);
    const watched = join(folder, 'watched');
    mkdirSync(watched);
    path = join(watched, kind === 'file' ? 'session.torpor' : 'session');
    let complete = 0;
    const trial = join(folder, 'trial');
    for (const generation of [1, 2]) {
      const disk = new Disk(watched);
      recorder.watch(watched);
      expectDone(await (generation === 1 ? writeFirst : writeSecond)({ env: recorder.env }));
      const operations = recorder.operations();
      recorder.stop();
      const seen = new Set<string>();
      const tries = async (tree: Tree, isOver: boolean) => {
        const digest = digestOf(tree);
        if (seen.has(digest)) return;
        seen.add(digest);
        rmSync(trial, { recursive: true, force: true });
        mkdirSync(trial);
        writeTree(tree, trial);
        const found = await generationOf(join(trial, kind === 'file' ? 'session.torpor' : 'session'));
        if (isOver) expect(found).toMatchObject({ generation });
        else if (generation === 2)
          expect(['1', '2']).toContain(String(found !== 'refused' && found.generation));
        if (found !== 'refused' && found.generation === generation) complete += 1;
      };
      for (const [index, operation] of operations.entries()) {
        disk.apply(operation);
        for (const data of ['dropped', 'kept', 'some'] as const)
          for (const names of ['dropped', 'kept', 'some'] as const)
            for (let seed = 0; seed < (data === 'some' || names === 'some' ? 3 : 1); seed++)
              await tries(disk.after({ data, names, seed } satisfies Loss), index === operations.length - 1);
      }
      expect(digestOf(disk.live)).toBe(digestOf(treeOf(watched)));
    }
    expect(complete).toBeGreaterThanOrEqual(2);
  });

  it('says what the medium answers, and is as it was', async () => {
    expectDone(await writeFirst());
    using recorder = new Recorder(folder);
    const saved = join(folder, 'saved');
    execFileSync('cp', ['-a', path, saved]);
    const [watched, name] = [join(folder, 'watched'), kind === 'file' ? 'session.torpor' : 'session'];
    const attempt = async (fault?: Parameters<Recorder['watch']>[1]) => {
      rmSync(watched, { recursive: true, force: true });
      mkdirSync(watched);
      path = join(watched, name);
      execFileSync('cp', ['-a', saved, path]);
      recorder.watch(watched, fault);
      const outcome = await writeSecond({ env: recorder.env });
      return { outcome, count: recorder.count };
    };
    const { count } = await attempt();
    // Some of them suffice for npm test: the power is lost at each of them above.
    for (let at = 1; at <= count; at += kind === 'file' ? 2 : 4) {
      for (const code of ['EIO', 'ENOSPC'] as const) {
        const { outcome } = await attempt({ kind: 'error', at, code });
        const found = await generationOf(path);
        expect(found).not.toBe('refused');
        if (outcome.code === 0) continue;
        expect(errorOf(outcome)?.message).toMatch(code === 'EIO' ? /answers EIO/ : /no room left/);
      }
    }
  });

  it('gives no wrong byte, whatever is flipped or cut off', async () => {
    path = join(folder, kind === 'file' ? 'session.torpor' : 'session');
    expectDone(await writeFirst());
    const parts =
      kind === 'file'
        ? [path]
        : [
            join(path, 'header.torpor'),
            join(path, 'catalogues/0000000001.cat'),
            join(path, 'packs', readdirSync(join(path, 'packs'))[0] ?? ''),
          ];
    const next = random(7);
    let refused = 0;
    const expectRefusal = async () => {
      let found: unknown = 'refused';
      try {
        found = await generationOf(path);
      } catch {
        // A record of a pack.
      }
      expect(found).toBe('refused');
      refused += 1;
    };
    for (const part of parts) {
      const whole = readFileSync(part);
      const header = kind === 'file' || part.endsWith('header.torpor') ? 4096 : 0;
      const positions = [
        ...Array.from({ length: header / 8 }, (_, index) => index * 8 + Math.floor(next() * 8)),
        ...Array.from(
          { length: whole.length > 4096 ? 700 : 0 },
          () => header + Math.floor(next() * (whole.length - header)),
        ),
      ];
      for (const position of positions) {
        const changed = Buffer.from(whole);
        changed.writeUInt8(changed.readUInt8(position) ^ (1 << Math.floor(next() * 8)), position);
        writeFileSync(part, changed);
        await expectRefusal();
      }
      for (let each = 0; each < 60; each++) {
        writeFileSync(part, whole.subarray(0, Math.floor(next() * whole.length)));
        await expectRefusal();
      }
      writeFileSync(part, whole);
    }
    expect(refused).toBeGreaterThan(1000);
    expect(await generationOf(path)).toEqual({ generation: 1, passedOver: null });
  });
});

/** More than one batch. */
const noisyStream = () => fileStream(noise(20, 6_000_000));

function treeOf(at: string): Tree {
  return new Map(
    readdirSync(at, { withFileTypes: true }).map((entry) => [
      entry.name,
      entry.isDirectory() ? treeOf(join(at, entry.name)) : readFileSync(join(at, entry.name)),
    ]),
  );
}

describe('a folder', () => {
  beforeEach(() => {
    form = 'folder';
    path = join(folder, 'session');
  });

  it('has its generation before where the newest is damaged', async () => {
    expectDone(await writeFirst());
    execFileSync('cp', ['-a', path, `${path}.first`]);
    expectDone(await writeSecond());
    // As where the power was lost before what is older was removed.
    execFileSync('cp', ['-an', `${path}.first/.`, path]);
    const newest = join(path, 'catalogues/0000000002.cat');
    const whole = readFileSync(newest);
    for (const damaged of [
      whole.subarray(0, 200),
      Buffer.alloc(0),
      Buffer.concat([whole, Buffer.alloc(1)]),
    ]) {
      writeFileSync(newest, damaged);
      expect(await generationOf(path)).toEqual({ generation: 1, passedOver: 2 });
    }
    const done = expectDone(await write(path, fileStream(noise(9, 100)), { form }));
    expect(done?.generation).toBe(3);
    expect(readdirSync(join(path, 'catalogues'))).toEqual(['0000000003.cat']);
  });

  it('is said to be incomplete where a part is missing', async () => {
    expectDone(await writeFirst());
    rmSync(join(path, 'packs'), { recursive: true });
    expectRefused(await read(path, [end]), 'failed', /is incomplete.*pack [0-9a-f]{32} is missing/);
  });

  it('says that the medium is gone where it vanishes', async () => {
    expectDone(await writeFirst());
    const running = start();
    running.tasks.write(writeTask(path, { form }));
    await running.until('ready');
    rmSync(path, { recursive: true });
    running.stream.end(noisyStream());
    running.tasks.end(commitTask());
    expectRefused(await running.ended, 'failed', /not there any more: the medium was pulled out/);
  });

  it('keeps its header where the power is lost while a passphrase is added', async () => {
    expectDone(await writeFirst());
    using recorder = new Recorder(folder);
    const disk = new Disk(path);
    recorder.watch(path);
    const running = start(recorder.env);
    running.tasks.end(
      `${JSON.stringify({ task: 'passphrases', path, passphrase, add: ['another one'], kdf: cheap })}\n`,
    );
    running.stream.end();
    expectDone(await running.ended);
    const trial = join(folder, 'trial');
    for (const operation of recorder.operations()) {
      disk.apply(operation);
      for (const data of ['dropped', 'kept', 'some'] as const)
        for (const names of ['dropped', 'kept', 'some'] as const) {
          rmSync(trial, { recursive: true, force: true });
          mkdirSync(trial);
          writeTree(disk.after({ data, names, seed: 5 }), trial);
          expect(await generationOf(trial)).toEqual({ generation: 1, passedOver: null });
        }
    }
  });

  it('is not made of a folder that has something else', async () => {
    mkdirSync(path);
    writeFileSync(join(path, 'holiday.jpg'), 'x');
    const refused = await writeFirst();
    expectRefused(refused, 'usage', /is not empty, and is no bundle/);
    expect(errorOf(refused)?.hint).toContain(`${path}/session`);
    expect(readdirSync(path)).toEqual(['holiday.jpg']);
    expectRefused(await read(path, [end]), 'usage', /is no bundle/);
    const short = join(folder, 'short');
    expectRefused(await write(short, Buffer.alloc(0), { passphrases: ['short'] }), 'usage', /fewer than 8/);
    expect(existsSync(short)).toBe(false);
    rmSync(join(path, 'holiday.jpg'));
    mkdirSync(join(path, 'lost+found'));
    expectDone(await writeFirst());
  });
});

describe('a file', () => {
  beforeEach(() => {
    form = 'file';
    path = join(folder, 'session.torpor');
  });

  it('does not replace one that is no bundle', async () => {
    writeFileSync(path, noise(1, 10_000));
    expectRefused(await writeFirst(), 'usage', /is there already, and is no bundle/);
    expectRefused(await read(path, [end]), 'usage', /is no bundle/);
    expect(readFileSync(path).equals(noise(1, 10_000))).toBe(true);
  });

  it('says where one can be no longer, and that a folder can', async () => {
    const limited = ['bash', '-c', 'trap "" XFSZ; ulimit -f 2000; exec "$0" "$@"'];
    const outcome = await write(path, noisyStream(), { form, prefix: limited });
    expectRefused(outcome, 'failed', /longer than a file can be there/);
    expect(errorOf(outcome)?.hint).toContain('folder');
    expect(readdirSync(folder)).toEqual([]);
  });
});

it('says what is not there', async () => {
  expectRefused(await read(join(folder, 'none'), [end]), 'not-found', /There is no bundle/);
  const lost = join(folder, 'no/such');
  expectRefused(await write(lost, Buffer.alloc(0)), 'not-found', /folder .*no is not there/);
  expectRefused(await tell({ task: 'sing' }), 'usage', /does not know/);
});

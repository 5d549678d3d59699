/** What the tests of crash safety rest on: everything is recorded, and a writer that syncs too little is found out. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Disk, digestOf, type Loss, readTree, type Tree } from '../support/disk-faults/disk.ts';
import { type Fault, Recorder } from '../support/disk-faults/recorder.ts';

const run = promisify(execFile);

let parent: string;
let folder: string;
let recorder: Recorder;
beforeEach(() => {
  // Where inode numbers are used again, as in most state folders.
  parent = mkdtempSync(join(tmpdir(), 'torpor-disk-'));
  folder = join(parent, 'watched');
  mkdirSync(folder);
  recorder = new Recorder(parent);
});
afterEach(() => {
  recorder[Symbol.dispose]();
  rmSync(parent, { recursive: true, force: true });
});

/** Runs a program in the folder. @returns what became of it. */
async function recorded(program: string, args: readonly string[], fault?: Fault) {
  recorder.watch(folder, fault);
  const options = { cwd: folder, env: { ...process.env, ...recorder.env } };
  return await run(program, args, options).then(
    ({ stdout }) => ({ ok: true, said: stdout }),
    (error) => ({ ok: false, said: `${error.signal ?? ''}${error.stdout}${error.stderr}` }),
  );
}
const python = (code: string, fault?: Fault) => recorded('/usr/bin/python3', ['-c', code], fault);
const node = (code: string, fault?: Fault) =>
  recorded(process.execPath, ['--input-type=module', '-e', code], fault);

const losses: Loss[] = (['dropped', 'kept', 'some'] as const).flatMap((data) =>
  (['dropped', 'kept', 'some'] as const).map((names) => ({ data, names })),
);

/** Every folder that may be left, wherever power is lost. */
function* outcomes(disk: Disk): Generator<{ count: number; tree: Tree }> {
  for (const [index, operation] of recorder.operations().entries()) {
    disk.apply(operation);
    for (let seed = 0; seed < 20; seed++)
      for (const loss of losses) yield { count: index + 1, tree: disk.after({ ...loss, seed }) };
  }
}

/** What there is of a folder at all moments, as far as operations tell. */
async function expectExplained(disk: Disk, work: () => Promise<{ ok: boolean; said: string }>) {
  const { ok, said } = await work();
  expect(ok, said).toBe(true);
  for (const operation of recorder.operations()) disk.apply(operation);
  expect(digestOf(disk.live)).toBe(digestOf(readTree(folder)));
}

describe('the journal explains what is there', () => {
  it('after Node', () =>
    expectExplained(new Disk(folder), () =>
      node(`
        import * as fs from 'node:fs';
        import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
        await mkdir('a/b/c', { recursive: true });
        await Promise.all([...Array(50).keys()].map((n) => writeFile('a/' + n, 'x'.repeat(n * 100))));
        await Promise.all([...Array(25).keys()].map((n) => rename('a/' + n, 'a/b/' + n)));
        await writeFile('a/30', 'shorter');
        fs.appendFileSync('a/30', ', and longer');
        const file = await open('a/31', 'r+');
        await file.write('middle', 1000);
        await file.truncate(1500);
        await file.writev([Buffer.from('one'), Buffer.from('two')], 20);
        await file.close();
        fs.copyFileSync('a/31', 'copy');
        fs.linkSync('copy', 'again');
        await rm('a/b/7');
        await mkdir('gone');
        await writeFile('gone/too', 'text');
        await rm('gone', { recursive: true });
      `),
    ));

  it('after programs, also where they go by descriptors of folders', () =>
    expectExplained(new Disk(folder), () =>
      recorded('/bin/sh', [
        '-ec',
        'mkdir -p x/y/z; echo one >x/one; echo two >>x/one; dd if=/dev/zero of=x/y/zeros bs=4096 count=20 status=none; ' +
          'dd if=/dev/zero of=x/direct oflag=direct bs=4096 count=4 status=none; cp -r x copy; rm -rf x/y; ' +
          'mv copy/one moved; truncate -s 100000 copy/y/zeros; ln moved x/linked; fallocate -l 5000 x/room',
      ]),
    ));

  it('over what was there before, with inode numbers used again', async () => {
    expect(
      await python('import os; os.mkdir("f")\nfor n in range(9): open(f"f/{n}", "w").write("before" * n)'),
    ).toMatchObject({ ok: true });
    await expectExplained(new Disk(folder), () =>
      python(
        'import os\n' +
          'for n in range(9): os.unlink(f"f/{n}"); fd = os.open(f"f/{n}", os.O_CREAT | os.O_WRONLY); os.pwrite(fd, b"after", n)',
      ),
    );
  });
});

it.each([
  ['a symbolic link', 'import os; os.symlink("x", "f")'],
  ['a stream', 'import ctypes; ctypes.CDLL(None).fopen(b"f", b"w")'],
])('what cannot be recorded ends the program: %s', async (what, code) => {
  const { ok, said } = await python(code);
  expect(ok).toBe(false);
  expect(said).toContain(`disk-faults: ${what}`);
});

/**
 * Writers that mean to have a file `manifest` in a folder `done`, with data that it belongs to, by the time that they make
 * `claim`. The first one does it right.
 */
const begin = `
  import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
  const write = (path) => { const fd = openSync(path, 'w'); writeSync(fd, 'text'.repeat(1000)); return fd; };
  const sync = (path) => { const fd = openSync(path, 'r'); fsyncSync(fd); closeSync(fd); };
  for (const each of ['done', 'new', 'new/it']) mkdirSync(each);
  sync('.');
`;
const writers = {
  'one that syncs all':
    'fsyncSync(write("new/it/data")); fsyncSync(write("new/it/manifest")); sync("new/it"); renameSync("new/it", "done/it"); sync("done");',
  'one that syncs data after the renaming':
    'const fd = write("new/it/data"); fsyncSync(write("new/it/manifest")); sync("new/it"); renameSync("new/it", "done/it"); fsyncSync(fd); sync("done");',
  'one that syncs no data':
    'write("new/it/data"); fsyncSync(write("new/it/manifest")); sync("new/it"); renameSync("new/it", "done/it"); sync("done");',
  'one that does not sync the names inside':
    'fsyncSync(write("new/it/data")); fsyncSync(write("new/it/manifest")); renameSync("new/it", "done/it"); sync("done");',
  'one that does not sync its new name':
    'fsyncSync(write("new/it/data")); fsyncSync(write("new/it/manifest")); sync("new/it"); renameSync("new/it", "done/it");',
  'one that writes after its sync':
    'const fd = write("new/it/data"); fsyncSync(fd); writeSync(fd, "more"); fsyncSync(write("new/it/manifest")); sync("new/it"); renameSync("new/it", "done/it"); sync("done");',
};

it('what is written by way of a mapping is recorded', () =>
  expectExplained(new Disk(folder), () =>
    python(
      'import mmap, os; fd = os.open("f", os.O_CREAT | os.O_RDWR); os.truncate(fd, 9000); m = mmap.mmap(fd, 9000)\n' +
        'm[4090:4100] = b"0123456789"; os.fsync(fd); m[0:3] = b"end"; m.close()',
    ),
  ));

describe('a writer is found out', () => {
  it.each(Object.entries(writers))('%s', async (name, code) => {
    const disk = new Disk(folder);
    expect(await node(`${begin}${code}mkdirSync('claim');`)).toMatchObject({ ok: true });
    const whole = readFileSync(join(folder, 'done/it/data'));
    const claimed = recorder.operations().length - 1;
    let wrong = 0;
    for (const { count, tree } of outcomes(disk)) {
      const done = tree.get('done');
      const it = done instanceof Map ? done.get('it') : undefined;
      const data = it instanceof Map ? it.get('data') : undefined;
      const isWhole = Buffer.isBuffer(data) && data.equals(whole) && it instanceof Map && it.has('manifest');
      if (!isWhole && (it !== undefined || count >= claimed)) wrong++;
    }
    if (name === 'one that syncs all') expect(wrong).toBe(0);
    else expect(wrong).toBeGreaterThan(0);
  });
});

describe('an operation fails', () => {
  const code =
    'import os; fd = os.open("f", os.O_CREAT | os.O_WRONLY); print(os.pwrite(fd, b"x" * 3000, 0)); os.fsync(fd); os.rename("f", "g")';

  it('each in turn', async () => {
    const said: string[] = [];
    for (let at = 1; at <= 4; at++) {
      const outcome = await python(code, { kind: 'error', at, code: 'EIO' });
      expect(outcome.ok).toBe(false);
      expect(recorder.struck).toBe(1);
      said.push(recorder.operations().at(-1)?.kind ?? '');
      rmSync(join(folder, 'f'), { force: true });
    }
    expect(said).toEqual(['make-file', 'write', 'sync', 'rename']);
  });

  it('a write is cut short, and a file system is full', async () => {
    expect(await python(code, { kind: 'short', at: 2 })).toEqual({ ok: true, said: '1024\n' });
    rmSync(join(folder, 'g'));
    expect((await python(code, { kind: 'full', at: 2 })).said).toContain('No space left on device');
  });

  it('its process is killed, and others go on', async () => {
    const killed = await python(
      `import os\nif os.fork() == 0: ${code.replaceAll(';', ';')}\nelse: os.wait(); open("h", "x")`,
      { kind: 'kill', at: 2 },
    );
    expect(killed.ok).toBe(true);
    expect(recorder.operations().map(({ kind, path }) => `${kind} ${path.slice(-1)}`)).toEqual([
      'make-file f',
      'make-file h',
    ]);
  });

  it('what was not written by a sync that failed may be lost for good', async () => {
    const disk = new Disk(folder);
    const again =
      'import os; fd = os.open("f", os.O_CREAT | os.O_WRONLY); os.write(fd, b"text")\ntry: os.fsync(fd)\nexcept OSError: os.fsync(fd)';
    expect(await python(again, { kind: 'error', at: 3, code: 'EIO' })).toMatchObject({ ok: true });
    for (const operation of recorder.operations()) disk.apply(operation);
    expect(disk.live.get('f')).toEqual(Buffer.from('text'));
    expect(disk.after({ data: 'dropped', names: 'kept' }).get('f')).toEqual(Buffer.alloc(0));
  });
});

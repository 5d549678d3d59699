/** What is in no bundle that Torpor made of an ordinary program: all of it is refused before anything is started. */
import { createHash } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ImportResult, Snapshot, Workload } from '../../api/types.ts';
import { checkImages } from '../../engine/bundle/checks/check-images.ts';
import { type Limit, limitsHere } from '../../engine/bundle/checks/limits.ts';
import { mapIdentity } from '../../engine/bundle/checks/map-identity.ts';
import type { Contents } from '../../engine/bundle/contents.ts';
import { openBundle } from '../../engine/bundle/medium/bundle.ts';
import { zeros } from '../../engine/bundle/medium/chunk-table.ts';
import { usualKdf } from '../../engine/bundle/medium/header.ts';
import { Writing } from '../../engine/bundle/medium/writing.ts';
import {
  credsEntry,
  fileEntry,
  type ImageKind,
  makeImage,
  mountEntry,
  rewriteImage,
} from '../../proto/images.ts';
import { type Manifest, manifestSchema, specOf } from '../../proto/manifest.ts';
import {
  decode,
  delimitedField,
  encode,
  message,
  optional,
  rawFields,
  repeated,
  required,
  withFields,
} from '../../proto/wire.ts';
import { idOf } from '../support/chunk-stream.ts';
import { TestEngine } from '../support/engine.ts';

/** games and man, which every Debian has. */
const owner = 5;
const importer = { uid: 6, gid: 12, groups: [12] };
const passphrase = 'correct horse battery staple';

let home: TestEngine;
let away: TestEngine;
let folder: string;
let pristine: string;
let images: string;
let manifest: Manifest;

beforeAll(async () => {
  [home, away] = [await TestEngine.create(), await TestEngine.create()];
  folder = await mkdtemp('/var/tmp/torpor-hostile-');
  const { id } = await home.json<Workload>(
    'run',
    '--user',
    String(owner),
    '--',
    'xterm',
    '-e',
    'sleep',
    '1000',
  );
  const { id: snapshot } = await home.json<Snapshot>('suspend', id);
  const stored = join(home.paths.stateDir, 'snapshots', snapshot);
  manifest = manifestSchema.parse(JSON.parse(await readFile(join(stored, 'manifest.json'), 'utf8')));
  pristine = join(stored, 'images');
  images = join(folder, 'images');
  const numbers = (await readdir(pristine)).map((name) => Number(/^core-(\d+)\.img$/.exec(name)?.[1] ?? 0));
  aProcess = Math.min(...numbers.filter((pid) => pid > 1));
});
beforeEach(async () => {
  await rm(images, { recursive: true, force: true });
  await cp(pristine, images, { recursive: true });
});
afterAll(async () => {
  for (const engine of [home, away]) await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** A process that is not the init, by the number that it has in the images. */
let aProcess: number;

async function change(name: string, kind: ImageKind, map: (entry: Buffer) => Buffer): Promise<void> {
  const path = join(images, name);
  await writeFile(path, rewriteImage(kind, await readFile(path), map));
}

/** Other credentials for a process. */
const changeCreds = (values: Partial<ReturnType<typeof decode<typeof credsEntry.fields>>>) =>
  change(`core-${aProcess}.img`, 'core', (core) =>
    withFields(core, 'core', (number, thread) =>
      number !== 5
        ? undefined
        : withFields(thread, 'thread', (inThread, creds) =>
            inThread !== 10 ? undefined : encode(credsEntry, { ...decode(credsEntry, creds), ...values }),
          ),
    ),
  );

const scheduling = message('thread', { nice: optional(3, 'sint32'), policy: optional(4, 'uint32') });
/** SCHED_RESET_ON_FORK of sched(7). */
const resetOnFork = 0x40000000;

/** More numbers in a thread's part of a process's image; the last of a kind counts. */
const addToThread = (field: Buffer, pid = aProcess) =>
  change(`core-${pid}.img`, 'core', (core) =>
    withFields(core, 'core', (number, thread) => (number === 5 ? Buffer.concat([thread, field]) : undefined)),
  );

/** Changes the first file that this is true of. */
async function changeFile(
  which: (name: string) => boolean,
  values: Readonly<Record<string, unknown>>,
): Promise<void> {
  let isDone = false;
  await change('files.img', 'files', (entry) => {
    const { reg } = decode(fileEntry, entry);
    if (isDone || reg === undefined || !which(reg.name.toString())) return entry;
    isDone = true;
    return encode(fileEntry, { ...decode(fileEntry, entry), reg: { ...reg, ...values } });
  });
  expect(isDone).toBe(true);
}

const changeMount = async (at: string, values: Readonly<Record<string, unknown>>) => {
  const name = (await readdir(images)).find((each) => each.startsWith('mountpoints-')) ?? '';
  await change(name, 'mountpoints', (entry) => {
    const mount = decode(mountEntry, entry);
    return mount.mountPoint.replace(/^\./, '') === at ? encode(mountEntry, { ...mount, ...values }) : entry;
  });
};

/** images/file-lock.proto, whole. */
const lockEntry = message('file_lock_entry', {
  flag: required(1, 'uint32'),
  type: required(2, 'uint32'),
  pid: required(3, 'int32'),
  fd: required(4, 'int32'),
  start: required(5, 'int64'),
  len: required(6, 'int64'),
});

/** A POSIX lock for writing of what a process has for 0, but for what is named. */
const locked = (values: Partial<Record<'flag' | 'type' | 'pid' | 'fd', number>> = {}) =>
  makeImage(
    'fileLocks',
    encode(lockEntry, { flag: 1, type: 1, pid: aProcess, fd: 0, start: 0n, len: 0n, ...values }),
  );

const refusal = (words: string) =>
  expect.objectContaining({ code: 'blocked', message: expect.stringContaining(words) });
const check = () => checkImages(images, manifest);

describe('images of a stranger', () => {
  it('are taken as they come from Torpor', async () => {
    await check();
  });

  it.each([
    ['another user', { euid: 0 }, 'runs as the user 0'],
    ['a foreign group', { groups: [0] }, 'is in the group 0'],
    ['a capability', { capEff: [1 << 21, 0], capPrm: [1 << 21, 0] }, 'has capabilities'],
    ['an inheritable capability', { capInh: [1, 0] }, 'has capabilities'],
    ['secure bits', { secbits: 1 }, 'has secure bits'],
    ['a way to privileges', { noNewPrivs: 0 }, 'no_new_privs'],
  ])('are refused with %s', async (_what, values, words) => {
    await changeCreds(values);
    await expect(check()).rejects.toEqual(refusal(words));
    await expect(check()).rejects.toEqual(refusal(`(pid ${aProcess})`));
  });

  it.each([
    ['runs in real time', { policy: 1, nice: 0 }, 'runs in real time'],
    ['has a deadline', { policy: 6, nice: 0 }, 'runs in real time'],
    ['comes before all others', { policy: 0, nice: -1 }, 'comes before all others'],
  ])('are refused where a process %s', async (_what, values, words) => {
    await addToThread(encode(scheduling, values));
    await expect(check()).rejects.toEqual(refusal(words));
    await expect(check()).rejects.toEqual(refusal(`(pid ${aProcess})`));
  });

  it('are refused where the init comes before all others', async () => {
    await addToThread(encode(scheduling, { policy: 0, nice: -20 }), 1);
    await expect(check()).rejects.toEqual(refusal('(pid 1) comes before all others'));
  });

  it('are taken with a process that has asked for less, or that nothing is inherited', async () => {
    await addToThread(encode(scheduling, { policy: 5 | resetOnFork, nice: 19 }));
    await check();
  });

  it('are refused where one thing is said in two parts, which CRIU would put together', async () => {
    await change(`core-${aProcess}.img`, 'core', (core) =>
      Buffer.concat(
        Array.from(rawFields(core, 'core'), ({ number, content, whole }) => {
          if (number !== 5) return whole;
          const others = Array.from(rawFields(content, 'thread')).filter((each) => each.number !== 4);
          const silent = Buffer.concat(others.map((each) => each.whole));
          const asks = Buffer.concat([silent, encode(scheduling, { policy: 1 })]);
          return Buffer.concat([delimitedField(5, asks), delimitedField(5, silent)]);
        }),
      ),
    );
    await expect(check()).rejects.toMatchObject({ message: expect.stringContaining('twice') });
  });

  it.each([
    [
      'a disk',
      (name: string) => name === '/dev/null',
      { name: Buffer.from('/dev/vda'), mode: 0o060666 },
      'the device',
    ],
    ['memory', (name: string) => name === '/dev/null', { name: Buffer.from('/dev/mem') }, 'the device'],
    ['a path that leads elsewhere', () => true, { name: Buffer.from('/../etc/shadow') }, 'leads elsewhere'],
    ['a file from outside', () => true, { ext: true }, 'comes from outside'],
    ['a set-user-id program', (name: string) => name.endsWith('/xterm'), { mode: 0o104755 }, 'set-user-id'],
  ])('are refused with %s', async (_what, which, values, words) => {
    await changeFile(which, values);
    await expect(check()).rejects.toEqual(refusal(words));
  });

  it.each([
    ['a folder of the machine', '/tmp', { extKey: 'host0' }, 'names a folder of the machine'],
    ['another key', '/run/torpor', { extKey: 'host0' }, 'is taken from'],
    ['a place of its own', '/tmp', { mountPoint: './etc' }, 'that no capsule has'],
    ['a way out', '/tmp', { mountPoint: './../etc' }, 'leads elsewhere'],
    ['another file system', '/tmp', { fstype: 11 }, 'that no capsule has'],
  ])('are refused with a mount that has %s', async (_what, at, values, words) => {
    await changeMount(at, values);
    await expect(check()).rejects.toEqual(refusal(words));
  });

  it('are taken with a lock of what a process has open', async () => {
    for (const flag of [1, 2, 4]) {
      await writeFile(join(images, 'filelocks.img'), locked({ flag }));
      await check();
    }
  });

  it.each([
    ['of a process that is not among them', { pid: 4_000_000 }, 'that no process has open (4000000, 0)'],
    ['of no process', { pid: -1 }, 'that no process has open'],
    ['of what its process has not open', { fd: 987 }, ', 987)'],
    ['of no descriptor', { fd: -1 }, ', -1)'],
    ['that is a lease', { flag: 32 }, 'a lock of an unknown kind'],
    ['of two kinds at once', { flag: 3 }, 'a lock of an unknown kind'],
    ['that is mandatory', { flag: 2, type: 32 }, 'a lock of an unknown kind'],
    ['that lets go', { type: 2 }, 'a lock of an unknown kind'],
  ])('are refused with a lock %s', async (_what, values, words) => {
    await writeFile(join(images, 'filelocks.img'), locked(values));
    await expect(check()).rejects.toEqual(refusal(words));
  });

  it.each(['netns-9.img', 'iptables-9.img', 'userns-9.img', 'creds-7.img', 'autofs-1.img', 'core-1.img.sh'])(
    'are refused with an image %s',
    async (name) => {
      await writeFile(join(images, name), 'x');
      await expect(check()).rejects.toEqual(refusal('it has an image'));
    },
  );

  it('are refused where an image is cut short, at any byte', async () => {
    const path = join(images, 'files.img');
    const whole = await readFile(path);
    for (let length = 0; length < whole.length; length += 1 + Math.floor(whole.length / 60)) {
      await writeFile(path, whole.subarray(0, length));
      await check().then(
        () => {},
        (error: unknown) => expect(['failed', 'blocked']).toContain((error as { code: string }).code),
      );
    }
  });
});

describe('identities', () => {
  const map = async (limits?: readonly Limit[]) =>
    mapIdentity(images, {
      ...{ from: specOf(manifest).user, to: importer },
      limits: limits ?? (await limitsHere()),
    });

  it('are all those of the importing user afterwards, and nobody has a capability', async () => {
    await map();
    for (const name of (await readdir(images)).filter((each) => /^core-\d+\.img$/.test(each)))
      await change(name, 'core', (core) =>
        withFields(core, 'core', (number, thread) => {
          if (number !== 5) return undefined;
          withFields(thread, 'thread', (inThread, bytes) => {
            if (inThread !== 10) return undefined;
            const creds = decode(credsEntry, bytes);
            const { uid, gid } = importer;
            expect(creds).toMatchObject({
              uid,
              euid: uid,
              suid: uid,
              fsuid: uid,
              gid,
              egid: gid,
              noNewPrivs: 1,
            });
            for (const set of [creds.capPrm, creds.capEff, creds.capInh, creds.capAmb])
              expect(set.every((word) => word === 0)).toBe(true);
            return undefined;
          });
          return undefined;
        }),
      );
  });

  describe('get limits', () => {
    const none = 2n ** 64n - 1n;
    const limitsEntry = message('task_rlimits_entry', {
      limits: repeated(
        1,
        message('rlimit_entry', { soft: required(1, 'uint64'), hard: required(2, 'uint64') }),
      ),
    });
    /** Of the task in a process's image, with what is given in place of it. */
    async function changeTask(edit: (number: number, content: Buffer) => Buffer | undefined, more?: Buffer) {
      await change(`core-${aProcess}.img`, 'core', (core) =>
        withFields(core, 'core', (number, task) =>
          number === 3 ? Buffer.concat([withFields(task, 'task', edit), more ?? Buffer.alloc(0)]) : undefined,
        ),
      );
    }
    const give = (...given: { soft: bigint; hard: bigint }[]) =>
      changeTask((number) => (number === 8 ? encode(limitsEntry, { limits: given }) : undefined));
    async function given() {
      let found: { soft: bigint; hard: bigint }[] = [];
      await changeTask((number, content) => {
        if (number === 8) found = decode(limitsEntry, content).limits;
        return undefined;
      });
      return found;
    }

    it('that are as high as here at most, and keep what is lower', async () => {
      await give(
        { soft: none, hard: none },
        { soft: 3n, hard: none },
        { soft: 3n, hard: 4n },
        { soft: 50n, hard: 60n },
      );
      await map(Array.from({ length: 4 }, () => ({ soft: 10n, hard: 20n })));
      expect(await given()).toEqual([
        { soft: 20n, hard: 20n },
        { soft: 3n, hard: 20n },
        { soft: 3n, hard: 4n },
        { soft: 20n, hard: 20n },
      ]);
    });

    it("those of here where the bundle has none, instead of CRIU's", async () => {
      await give({ soft: 1n, hard: 1n });
      const here = [
        { soft: 5n, hard: 5n },
        { soft: 6n, hard: 7n },
      ];
      await map(here);
      expect(await given()).toEqual([{ soft: 1n, hard: 1n }, here[1]]);
    });

    it('and nothing else of what this kernel has no limits of', async () => {
      await give({ soft: 1n, hard: 1n }, { soft: 2n, hard: 2n });
      await map([{ soft: 1n, hard: 1n }]);
      expect(await given()).toEqual([{ soft: 1n, hard: 1n }]);
    });

    it('in one part only', async () => {
      const highest = Array.from({ length: 8 }, () => ({ soft: none, hard: none }));
      await give(...highest);
      await changeTask(() => undefined, delimitedField(8, encode(limitsEntry, { limits: highest })));
      await expect(check()).rejects.toMatchObject({ message: expect.stringContaining('twice') });
    });
  });

  it('are nobody else’s where the kernel notes who logged in', async () => {
    const login = message('task', { loginuid: optional(13, 'uint32') });
    const found: (number | undefined)[] = [];
    const withTask = (edit: (task: Buffer) => Buffer) =>
      change(`core-${aProcess}.img`, 'core', (core) =>
        withFields(core, 'core', (number, task) => (number === 3 ? edit(task) : undefined)),
      );
    await withTask((task) => Buffer.concat([task, encode(login, { loginuid: 0 })]));
    await map();
    await withTask((task) => {
      found.push(decode(login, task).loginuid);
      return task;
    });
    expect(found).toEqual([undefined]);
  });

  /** Of an archive with something in it, the first header. */
  async function changeHeader(edit: (header: Buffer) => void): Promise<void> {
    for (const name of (await readdir(images)).filter((each) => each.startsWith('tmpfs-'))) {
      const bytes = gunzipSync(await readFile(join(images, name)));
      const header = bytes.subarray(0, 512);
      edit(header);
      header.fill(0x20, 148, 156);
      const sum = header.reduce((all, byte) => all + byte, 0);
      header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
      await writeFile(join(images, name), gzipSync(bytes));
    }
  }

  it.each([
    [
      'a disk',
      (header: Buffer) => header.fill('3', 156, 157) && header.write('0000010\0', 329),
      'is the device',
    ],
    ['a block device', (header: Buffer) => header.fill('4', 156, 157), 'is of the kind'],
    ['a set-user-id bit', (header: Buffer) => header.write('0004755\0', 100), 'set-user-id'],
    ['a path that leads out', (header: Buffer) => header.write('../../etc/cron.d/x\0', 0), 'leads out'],
    ['an absolute path', (header: Buffer) => header.write('/etc/cron.d/x\0', 0), 'leads out'],
    ['another owner', (header: Buffer) => header.write('0000144\0', 108), 'belongs to the user 100'],
    ['another format', (header: Buffer) => header.write('ustar\0' + '00', 257), 'another format'],
  ])('are not mapped where an archive has %s', async (_what, edit, words) => {
    await changeHeader(edit);
    await expect(map()).rejects.toEqual(refusal(words));
  });
});

describe('the catalogue of a stranger', () => {
  let path: string;
  let genuine: Contents;

  beforeAll(async () => {
    path = join(folder, 'bundle');
    const written = await home.run(['export', '--json', 'xterm', `${path}/`], { input: `${passphrase}\n` });
    expect(written, written.stderr).toMatchObject({ code: 0 });
    const bundle = await openBundle(path, { passphrase });
    genuine = bundle.catalogue.contents as unknown as Contents;
    await bundle.stored[Symbol.asyncDispose]();
  });

  /** The next generation, with other contents, and files of its first snapshot that are none of Torpor's. */
  async function forge(
    edit: (contents: Contents) => void,
    files: Readonly<Record<string, Buffer>> = {},
  ): Promise<void> {
    const bundle = await openBundle(path, { passphrase });
    const { lists, table } = bundle.catalogue;
    await bundle.stored[Symbol.asyncDispose]();
    const changed = structuredClone(genuine);
    edit(changed);
    const request = { path, form: 'folder' as const, passphrases: [passphrase], kdf: usualKdf };
    const writing = await Writing.begin({ ...request, expectedBytes: 0, hasBeside: false }, () => {});
    for (const list of lists) {
      const ids = Array.from(list?.chunks ?? [], (number) =>
        number === zeros ? Buffer.alloc(32) : Buffer.from(table.id(number)),
      );
      await writing.take({
        ...{ kind: 'list', bytes: list?.bytes ?? 0, ids: Buffer.concat(ids) },
        sha256: Buffer.from(list?.sha256 ?? '', 'hex'),
      });
    }
    for (const [number, [path, contents]] of Object.entries(files).entries()) {
      const bytes = Buffer.concat([contents], Math.ceil(contents.length / 4096) * 4096);
      const [id, pages] = [idOf(bytes), bytes.length / 4096];
      const payload = Buffer.concat([id, Buffer.from([0, pages, 0, 0]), bytes]);
      await writing.take({ kind: 'chunk', payload, id, codec: 0, pages });
      const sha256 = createHash('sha256').update(contents).digest();
      await writing.take({ kind: 'list', bytes: contents.length, sha256, ids: id });
      const others = first(changed).files.filter((each) => each.path !== path);
      first(changed).files = [...others, { path, list: lists.length + number }];
    }
    await writing.commit(changed as unknown as Record<string, unknown>, [], () => {});
    await writing.close();
  }

  const first = (contents: Contents) => {
    const [workload] = contents.workloads;
    if (workload === undefined) throw new Error('nothing is in it');
    return workload;
  };
  const aFile = (contents: Contents) => first(contents).layer.find((entry) => entry.kind === 'file');

  it.each<[string, (contents: Contents) => void, number, string]>([
    [
      'a path with ..',
      (c) => Object.assign(aFile(c) ?? {}, { path: '/usr/../etc/passwd' }),
      1,
      'does not understand',
    ],
    [
      'a relative path',
      (c) => Object.assign(aFile(c) ?? {}, { path: 'etc/passwd' }),
      1,
      'does not understand',
    ],
    ['a set-user-id file', (c) => Object.assign(aFile(c) ?? {}, { mode: 0o4755 }), 1, 'does not understand'],
    [
      'a file of the snapshot outside',
      (c) => Object.assign(first(c).files[0] ?? {}, { path: 'images/../../x' }),
      1,
      'does not understand',
    ],
    [
      'a link where a capsule has a mount',
      (c) => first(c).layer.push({ kind: 'link', path: '/tmp/x', target: '/etc', owner: 'root' }),
      3,
      'where a capsule has its own',
    ],
    ['a feature that no CPU has', (c) => first(c).manifest.host.cpuFeatures.push('avx1024'), 3, 'avx1024'],
    [
      'another architecture',
      (c) => Object.assign(first(c).manifest.host, { architecture: 's390x' }),
      3,
      's390x',
    ],
    ['a newer version', (c) => Object.assign(c, { version: 99 }), 1, 'newer Torpor'],
  ])('is refused with %s', async (_what, edit, code, words) => {
    await forge(edit);
    await isRefused(code, words);
  });

  it('is refused with an image that Torpor has not made', async () => {
    await forge(() => {}, { 'images/filelocks.img': locked({ pid: 4_000_000 }) });
    await isRefused(3, 'a lock on something that no process has open');
  });

  it('has no higher limits than what is started there, once it is resumed', async () => {
    await forge(() => {});
    const lower = ['prlimit', '--nofile=1500:2000', '--memlock=65536:65536', '--core=0:0', '--'];
    await using poor = await TestEngine.create({ prefix: lower });
    const user = ['--user', String(importer.uid)];
    const outcome = await poor.run(['import', '--json', ...user, path], { input: `${passphrase}\n` });
    expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
    const [taken] = (JSON.parse(outcome.stdout) as ImportResult).workloads as [Workload];
    await poor.json('resume', taken.id);
    const started = await poor.json<Workload>('run', ...user, '--', 'sleep', '1000');
    const hardLimits = async ({ id }: Workload) => {
      const { pids } = await poor.workload(id);
      return Promise.all(pids.map(async (pid) => (await limitsHere(pid)).map(({ hard }) => hard)));
    };
    const [expected] = await hardLimits(started);
    expect(expected?.[7]).toBe(2000n);
    for (const limits of await hardLimits(taken)) expect(limits).toEqual(expected);
  });

  async function isRefused(code: number, words: string): Promise<void> {
    const refused = await away.run(['import', '--json', '--user', String(importer.uid), path], {
      input: `${passphrase}\n`,
    });
    expect(refused).toMatchObject({ code });
    expect(refused.stdout).toContain(words);
    expect(await away.snapshots()).toEqual([]);
    for (const name of ['staging', 'layers', 'packs'])
      expect(await readdir(join(away.paths.stateDir, name)).catch(() => [])).toEqual([]);
    expect(await away.json<Workload[]>('ps')).toEqual([]);
  }
});

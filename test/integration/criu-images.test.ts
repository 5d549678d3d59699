/** The images of a real checkpoint, held against what /proc said of the same processes before. */
import {
  cpSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { CriuError } from '../../engine/criu/criu-error.ts';
import { type Images, type ProcessImage, readImages } from '../../engine/criu/images.ts';
import { rewriteRegFiles } from '../../engine/files/rewrite.ts';
import { Counter, canCheckpoint, makeClient } from './criu-fixture.ts';

/** What /proc says of a process, in the words of the images. */
interface Truth {
  comm: string;
  status: Record<string, string>;
  executable: string;
  cwd: string;
  descriptors: Record<string, string>;
  mappedExecutables: string[];
}

function truthOf(pid: number): Truth {
  const status = Object.fromEntries(
    readFileSync(`/proc/${pid}/status`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
  );
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
  return {
    comm: readFileSync(`/proc/${pid}/comm`, 'utf8').trim(),
    status,
    executable: readlinkSync(`/proc/${pid}/exe`),
    cwd: readlinkSync(`/proc/${pid}/cwd`),
    descriptors: Object.fromEntries(
      readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)]),
    ),
    mappedExecutables: [
      ...new Set(
        maps.filter((line) => / r-xp .* \//.test(line)).map((line) => line.slice(line.indexOf('/'))),
      ),
    ].sort(),
  };
}

type Alive = Extract<ProcessImage, { kind: 'alive' }>;

describe.skipIf(!canCheckpoint)('readImages', { timeout: 60_000 }, () => {
  let counter: Counter;
  let images: Images;
  let truths: Truth[];
  let mountPoints: string[];

  const pathOf = (id: number | undefined) => images.regFiles.find((file) => file.id === id)?.path;
  const alive = (index: number) => images.processes[index] as Alive;

  beforeAll(async () => {
    counter = await Counter.start();
    const { pid } = counter.root;
    const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
    truths = [truthOf(pid), truthOf(child)];
    mountPoints = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '');
    await counter.dump(makeClient());
    images = await readImages(counter.imagesDir);
  });
  afterAll(() => counter?.[Symbol.asyncDispose]());

  it('finds the processes as they were', () => {
    expect(images.processes.map(({ pid, ppid, sid, comm, kind }) => [pid, ppid, sid, comm, kind])).toEqual([
      [1, 0, 1, truths[0]?.comm, 'alive'],
      [Number(truths[1]?.status.NSpid?.split('\t')[1]), 1, 1, truths[1]?.comm, 'alive'],
    ]);
  });

  it.each([0, 1])('finds what process %i may do', (index) => {
    const status = truths[index]?.status ?? {};
    const numbers = (text = '') => text.split(/\s+/).filter(Boolean).map(Number);
    const [thread] = alive(index).threads;
    expect(alive(index).threads).toHaveLength(1);
    const credentials = thread?.credentials;
    expect([credentials?.uid, credentials?.euid, credentials?.suid, credentials?.fsuid]).toEqual(
      numbers(status.Uid),
    );
    expect([credentials?.gid, credentials?.egid, credentials?.sgid, credentials?.fsgid]).toEqual(
      numbers(status.Gid),
    );
    expect(credentials?.groups).toEqual(numbers(status.Groups));
    expect(credentials?.inheritable).toBe(BigInt(`0x${status.CapInh}`));
    expect(credentials?.permitted).toBe(BigInt(`0x${status.CapPrm}`));
    expect(credentials?.effective).toBe(BigInt(`0x${status.CapEff}`));
    expect(credentials?.bounding).toBe(BigInt(`0x${status.CapBnd}`));
    expect(credentials?.ambient).toBe(BigInt(`0x${status.CapAmb}`));
    expect(credentials?.noNewPrivs).toBe(status.NoNewPrivs === '1');
    expect(thread?.seccomp).toBe(['disabled', 'strict', 'filter'][Number(status.Seccomp)]);
  });

  it.each([0, 1])('finds program, folder and open files of process %i', (index) => {
    const truth = truths[index];
    expect(pathOf(alive(index).executable)).toBe(truth?.executable);
    expect(pathOf(alive(index).cwd)).toBe(truth?.cwd);
    const found = alive(index).descriptors.map(({ fd, kind, fileId }) => {
      if (kind === 'unix-socket') {
        const socket = images.unixSockets.find(({ id }) => id === fileId);
        return [String(fd), `socket:[${socket?.inode}]`];
      }
      const file = images.regFiles.find(({ id }) => id === fileId);
      return [String(fd), `${file?.path}${file?.remap === 'ghost' ? ' (deleted)' : ''}`];
    });
    expect(Object.fromEntries(found)).toEqual(truth?.descriptors);
    expect(found.length).toBeGreaterThan(0);
  });

  it('tells programs and libraries from documents', () => {
    const expected = new Set(truths.flatMap((truth) => truth.mappedExecutables));
    const found = images.regFiles.filter((file) => file.isMappedExecutable).map((file) => file.path);
    expect(found.sort()).toEqual([...expected].sort());
    expect(
      images.regFiles
        .filter((file) => file.isExecutable)
        .map((file) => file.path)
        .sort(),
    ).toEqual([...new Set(truths.map((truth) => truth.executable))].sort());
    const document = images.regFiles.find((file) => file.path.endsWith('/count file'));
    expect(document).toMatchObject({
      isMapped: false,
      isExecutable: false,
      remap: 'none',
      isExternal: false,
    });
    expect(document?.size).toBe(statSync(join(counter.folder, 'count file')).size);
    expect(document?.position).toBe(document?.size);
  });

  it('finds the deleted file and the listening socket', () => {
    expect(images.regFiles.find((file) => file.path.endsWith('/count file.gone'))?.remap).toBe('ghost');
    expect(images.unixSockets).toMatchObject([
      {
        type: 'stream',
        isListening: true,
        name: { kind: 'path', path: join(counter.folder, 'count file.socket') },
        isDeleted: false,
        isExternal: false,
      },
    ]);
  });

  it('finds the mounts', () => {
    expect(images.mounts.map((mount) => mount.mountPoint).sort()).toEqual(
      // CRIU counts from the root as a relative path.
      mountPoints.sort().map((path) => expect.stringMatching(new RegExp(`^\\.?${path}$`))),
    );
  });

  it('restores although a document has grown, once its size is dropped, and under another name', async () => {
    const document = join(counter.folder, 'count file');
    const moved = join(counter.folder, 'moved away, größer');
    const id = images.regFiles.find((file) => file.path === document)?.id ?? -1;
    const content = readFileSync(document, 'utf8');
    writeFileSync(document, `${content}and more\n`);
    await expect(counter.restore(makeClient())).rejects.toThrow(
      `The file ${document.slice(1)} has changed since: it had ${content.length} bytes`,
    );

    const path = join(counter.imagesDir, 'files.img');
    const original = readFileSync(path);
    cpSync(document, moved);
    writeFileSync(
      path,
      rewriteRegFiles(original, new Map([[id, { forgetContents: true, movedTo: { path: moved } }]])),
    );
    await counter.restore(makeClient());
    expect(readlinkSync(`/proc/${counter.root.pid}/fd/${descriptorOf(id)}`)).toBe(moved);
  });

  const descriptorOf = (id: number) => alive(0).descriptors.find(({ fileId }) => fileId === id)?.fd;
});

describe.skipIf(!canCheckpoint)('damaged images', { timeout: 60_000 }, () => {
  let counter: Counter;
  beforeAll(async () => {
    counter = await Counter.start();
    await counter.dump(makeClient());
  });
  afterAll(() => counter?.[Symbol.asyncDispose]());

  it('are refused by name, cut off anywhere', async () => {
    const copy = join(counter.folder, 'copy');
    for (const name of ['inventory.img', 'pstree.img', 'core-1.img', 'mm-1.img', 'files.img']) {
      const { size } = statSync(join(counter.imagesDir, name));
      for (const length of [0, 3, 7, 11, size - 1]) {
        cpSync(counter.imagesDir, copy, { recursive: true });
        truncateSync(join(copy, name), length);
        const error = await readImages(copy).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error, `${name} of ${length} bytes`).toBeInstanceOf(TorporError);
        expect((error as TorporError).message).toContain(name);
        rmSync(copy, { recursive: true });
      }
    }
  });

  it('are explained where only CRIU finds them', async () => {
    const image = join(counter.imagesDir, 'pstree.img');
    const bytes = readFileSync(image);
    bytes.writeUInt32LE(0x12345678, 4);
    writeFileSync(image, bytes);
    const restore = counter.restore(makeClient());
    await expect(restore).rejects.toThrow(CriuError);
    await expect(restore).rejects.toThrow('The snapshot is damaged: pstree.img');
  });
});

/** A store of a test's own, and snapshots in it that are made as a suspend makes them, without an application. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { pino } from 'pino';
import { findInstallation } from '../../engine/installation.ts';
import { Encryption } from '../../engine/store/encryption/encryption.ts';
import { StoreKey } from '../../engine/store/key.ts';
import { writeManifest } from '../../engine/store/manifests.ts';
import { giveKeys, PagesProgram } from '../../engine/store/pages-program.ts';
import { hashFile } from '../../engine/store/seal.ts';
import { SnapshotStore } from '../../engine/store/snapshot-store.ts';
import type { Manifest, ManifestBody } from '../../proto/manifest.ts';

export const pageBytes = 4096;
export const silent = pino({ level: 'silent' });

/** One that can be encrypted; each call is as a new engine, which has no key. */
export async function openEncryptedStore(
  stateDir: string,
): Promise<{ store: SnapshotStore; pages: PagesProgram }> {
  const encryption = await Encryption.open(stateDir, silent);
  const keys = () => encryption.forPrograms();
  const pages = new PagesProgram(findInstallation().pages, stateDir, silent, keys);
  const runDir = join(stateDir, 'run');
  return { store: await SnapshotStore.open(stateDir, pages, silent, { encryption, runDir }), pages };
}

export function openPages(stateDir: string): PagesProgram {
  return new PagesProgram(findInstallation().pages, stateDir, silent);
}

export function openStore(stateDir: string): Promise<SnapshotStore> {
  return SnapshotStore.open(stateDir, openPages(stateDir), silent);
}

/** What a manifest says of a job. */
export const jobBody = {
  kind: 'job',
  job: {
    command: ['sleep', '1000'],
    cwd: '/',
    user: { uid: 1000, gid: 1000, groups: [], name: 'me', home: '/home/me', shell: '/bin/sh' },
    root: 100,
    session: 100,
  },
  workload: 'w',
  name: 'sleep',
  startedAt: '2026-11-22T10:00:00.000Z',
  takenAt: '2026-11-22T11:00:00.000Z',
  leftRunning: false,
  memoryBytes: 1,
  processes: [{ pid: 100, name: 'sleep' }],
  standstillMs: 1,
  durableMs: 2,
  host: { kernel: '6.1', criu: '4.2.1', architecture: 'x64', cpuFeatures: [] },
  findings: [],
  surroundings: [],
} satisfies ManifestBody;

/** A page that no other number has; half of it can be compressed. */
export function page(number: number): Buffer {
  const parts = Array.from({ length: 64 }, (_, index) =>
    createHash('sha256').update(`page ${number}, ${index}`).digest(),
  );
  return Buffer.concat([...parts, Buffer.alloc(pageBytes / 2, number)]);
}
export const zeroPage = Buffer.alloc(pageBytes);

/** Pages from an address on, each by itself so that a test can replace one. */
export interface Area {
  vaddr: bigint;
  pages: Buffer[];
}
/** Of each process, by its pid; in the order in which their images are numbered, from 1. */
export type Memory = ReadonlyMap<number, readonly Area[]>;

/** What `pages-N.img` would hold. */
export const imageOf = (areas: readonly Area[]): Buffer => Buffer.concat(areas.flatMap(({ pages }) => pages));

const commands = { open: 4, add: 6, close: 0x1023 };
/** ENTRY_LAZY and ENTRY_PRESENT. */
const flags = 2 | 4;

function message(command: number, pages: number, vaddr: bigint, destination: bigint): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32LE(command, 0);
  bytes.writeBigUInt64LE(BigInt(pages), 8);
  bytes.writeBigUInt64LE(vaddr, 16);
  bytes.writeBigUInt64LE(destination, 24);
  return bytes;
}

/** All of it as CRIU sends it to its page server. */
export function* pageStream(memory: Memory): Generator<Buffer> {
  for (const [pid, areas] of memory) {
    const destination = (BigInt(pid) << 8n) | 1n;
    yield message(commands.open, 0, 0n, destination);
    for (const { vaddr, pages } of areas) {
      yield message(commands.add | (flags << 16), pages.length, vaddr, destination);
      yield Buffer.concat(pages);
    }
  }
  yield message(commands.close, 0, 0n, 0n);
}

export interface Received {
  images: number;
  pages: number;
  zeroPages: number;
  chunks: number;
  newChunks: number;
  parentPages: number;
  writtenBytes: number;
}

/** Runs `torpor-pages receive` on memory. `more` are further arguments, `keys` what `--key-fd` takes. */
export async function receive(
  stateDir: string,
  stage: string,
  memory: Memory,
  more: readonly string[] = [],
  keys?: Buffer,
): Promise<Received> {
  const keyed = keys === undefined ? [] : ['--key-fd', '4'];
  const args = ['receive', '--socket', '3', '--store', stateDir, '--stage', stage, ...more, ...keyed];
  const child = spawn(findInstallation().pages, args, {
    stdio: ['pipe', 'pipe', 'inherit', 'pipe', keys === undefined ? 'ignore' : 'pipe'],
  });
  giveKeys(child, 4, keys);
  const ended = once(child, 'close');
  let words = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    words += text;
  });
  // One that could not even begin says why in its last line.
  child.stdin?.on('error', () => {}).end('go\n');
  const socket = child.stdio[3] as Duplex;
  // It answers each opening and the close; what it says is looked at by its own tests.
  socket.on('data', () => {}).on('error', () => {});
  for (const part of pageStream(memory)) if (!socket.write(part)) await once(socket, 'drain');
  const [status] = (await ended) as [number | null];
  const events = words
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { event: string });
  const done = events.find(({ event }) => event === 'done');
  if (status !== 0 || done === undefined) throw new Error(`torpor-pages receive: ${status} ${words}`);
  return done as unknown as Received;
}

/** What every suspend writes beside the pages. */
async function writeImages(images: string): Promise<void> {
  await writeFile(join(images, 'core-100.img'), page(1).subarray(0, 700));
  await writeFile(join(images, 'pstree.img'), page(2).subarray(0, 50));
  await writeFile(join(images, '..', 'screen.png'), page(3).subarray(0, 300));
}

/** Suspends what has this memory. */
export async function takeSnapshot(
  store: SnapshotStore,
  memory: Memory,
  body: Partial<ManifestBody> = {},
  more: readonly string[] = [],
): Promise<Manifest & { received: Received }> {
  const stage = await store.stage();
  try {
    const whole = { ...jobBody, ...body } as ManifestBody;
    const parent = await store.parentOf(whole.workload);
    const compared = parent === undefined ? [] : ['--parent', store.folderOf(parent)];
    await writeImages(stage.images);
    const received = await receive(store.stateDir, stage.folder, memory, [...compared, ...more], stage.keys);
    const { images, pages, zeroPages, chunks, writtenBytes: storedBytes } = received;
    const manifest = await store.commit(stage, () => ({
      ...whole,
      ...(parent === undefined ? {} : { parent }),
      pages: { images, pages, zeroPages, chunks, storedBytes },
    }));
    return { ...manifest, received };
  } catch (error) {
    await store.discard(stage);
    throw error;
  }
}

/** A snapshot of version 1, as the first Torpor wrote it: memory is among the images. */
export async function takeVersion1(
  store: SnapshotStore,
  memory: Memory,
  body: Partial<ManifestBody> = {},
): Promise<Manifest> {
  const stage = await store.stage();
  await writeImages(stage.images);
  await mkdir(stage.images, { recursive: true });
  let number = 0;
  for (const areas of memory.values())
    await writeFile(join(stage.images, `pages-${++number}.img`), imageOf(areas));
  return store.commit(stage, () => ({ ...jobBody, ...body }) as ManifestBody);
}

/** The memory of a snapshot, as a resume would have it. */
export async function readMemory(
  stateDir: string,
  snapshot: string,
  image: number,
  keys?: Buffer,
): Promise<Buffer> {
  const args = ['cat', '--store', stateDir, '--snapshot', join(stateDir, 'snapshots', snapshot)];
  const keyed = keys === undefined ? [] : ['--key-fd', '3'];
  const child = spawn(findInstallation().pages, [...args, '--pages-id', String(image), ...keyed], {
    stdio: ['ignore', 'pipe', 'pipe', keys === undefined ? 'ignore' : 'pipe'],
  });
  giveKeys(child, 3, keys);
  const parts: Buffer[] = [];
  let words = '';
  child.stdout?.on('data', (part: Buffer) => parts.push(part));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words += text;
  });
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`torpor-pages cat: ${status} ${words}`);
  return Buffer.concat(parts);
}

/**
 * Makes a snapshot of version 1 of a complete one: its memory is among the images, and packs have nothing of it. No
 * engine may be at work there.
 */
export async function makeVersion1(stateDir: string, snapshot: string): Promise<void> {
  const folder = join(stateDir, 'snapshots', snapshot);
  const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest;
  const { pages, parent: _parent, ...others } = manifest;
  for (let image = 1; image <= (pages?.images ?? 0); image++) {
    const bytes = await readMemory(stateDir, snapshot, image);
    await writeFile(join(folder, 'images', `pages-${image}.img`), bytes);
  }
  await rm(join(folder, 'pages'), { recursive: true });
  const names = (await readdir(join(folder, 'images'))).map((name) => `images/${name}`);
  const kept = others.files.map(({ path }) => path).filter((path) => !/^(images|pages)\//.test(path));
  const files = await Promise.all(
    [...kept, ...names].map(async (path) => ({ path, ...(await hashFile(join(folder, path), 0)) })),
  );
  const key = await StoreKey.open(join(stateDir, 'key'), true);
  await writeManifest(folder, { ...others, version: 1, files }, key);
}

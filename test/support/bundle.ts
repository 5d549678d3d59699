/** Drives `torpor-bundle` as the engine does, with streams that a test has made. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';

const program = new URL('../../build/torpor-bundle.mjs', import.meta.url).pathname;
const pageBytes = 4096;

/** As little work as the header allows: what is tested is not how long a guess takes. */
export const cheap = { ops: 1, memory: 8192 };
export const passphrase = 'correct horse battery';

const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export type Event = Record<string, unknown> & { event: string };

export interface Outcome {
  events: Event[];
  /** The last event of that kind. */
  last: (event: string) => Event | undefined;
  /** What came on descriptor 3. */
  stream: Buffer;
  /** What came on descriptor 4. */
  known: Buffer;
  code: number | null;
  signal: NodeJS.Signals | null;
  stderr: string;
}

export interface Running {
  child: ChildProcess;
  /** Tasks, one after the other. */
  tasks: Writable;
  /** Descriptor 3. */
  stream: Writable;
  ended: Promise<Outcome>;
  until: (event: string) => Promise<Event>;
}

function gather(readable: Readable): Promise<Buffer> {
  const parts: Buffer[] = [];
  readable.on('data', (data: Buffer) => parts.push(data));
  readable.on('error', () => {});
  return new Promise((resolve) => readable.on('close', () => resolve(Buffer.concat(parts))));
}

/** @param prefix a command that runs it, such as one that limits it */
export function start(env: Record<string, string> = {}, prefix: readonly string[] = []): Running {
  const [command = '', ...args] = [...prefix, process.execPath, program];
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const [stdin, stdout, stderr, stream, known] = child.stdio as unknown as [
    Writable,
    Readable,
    Readable,
    Readable & Writable,
    Readable,
  ];
  for (const end of [stdin, stream]) end.on('error', () => {});
  const events: Event[] = [];
  const waiting: (() => void)[] = [];
  let line = '';
  stdout.on('data', (data: Buffer) => {
    line += data.toString();
    const lines = line.split('\n');
    line = lines.pop() ?? '';
    for (const each of lines) events.push(JSON.parse(each) as Event);
    for (const wake of waiting.splice(0)) wake();
  });
  const closed = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.on('close', (code, signal) => {
      resolve({ code, signal });
      for (const wake of waiting.splice(0)) wake();
    }),
  );
  const parts = Promise.all([gather(stream), gather(known), gather(stderr)]);
  const ended = closed.then(async ({ code, signal }) => {
    const [sent, ids, said] = await parts;
    const last = (event: string) => events.findLast((each) => each.event === event);
    return { events, last, stream: sent, known: ids, code, signal, stderr: said.toString() };
  });
  const until = async (event: string): Promise<Event> => {
    for (;;) {
      const found = events.find((each) => each.event === event);
      if (found !== undefined) return found;
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`torpor-bundle ended without ${event}: ${JSON.stringify((await ended).events)}`);
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  };
  return { child, tasks: stdin, stream, ended, until };
}

export interface WriteOptions {
  passphrases?: readonly string[];
  form?: 'file' | 'folder' | 'auto';
  contents?: Record<string, unknown>;
  kdf?: { ops: number; memory: number };
  expectedBytes?: number;
  env?: Record<string, string>;
  prefix?: readonly string[];
}

export const writeTask = (path: string, options: WriteOptions = {}) =>
  `${JSON.stringify({
    task: 'write',
    path,
    form: options.form ?? 'auto',
    passphrases: options.passphrases ?? [passphrase],
    kdf: options.kdf ?? cheap,
    expectedBytes: options.expectedBytes ?? 0,
  })}\n`;

export const commitTask = (contents: Record<string, unknown> = {}) =>
  `${JSON.stringify({ task: 'commit', contents })}\n`;

/** Writes a generation of what the stream says. */
export async function write(path: string, stream: Buffer, options: WriteOptions = {}): Promise<Outcome> {
  const running = start(options.env, options.prefix);
  running.tasks.end(writeTask(path, options) + commitTask(options.contents));
  running.stream.end(stream);
  return await running.ended;
}

/** Reads by these tasks. */
export async function read(
  path: string,
  tasks: readonly Record<string, unknown>[],
  secret = passphrase,
): Promise<Outcome> {
  const running = start();
  const lines = [{ task: 'read', path, by: { passphrase: secret } }, ...tasks];
  running.tasks.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  running.stream.end();
  return await running.ended;
}

export async function tell(task: Record<string, unknown>): Promise<Outcome> {
  const running = start();
  running.tasks.end(`${JSON.stringify(task)}\n`);
  running.stream.end();
  return await running.ended;
}

/** An item of a stream. */
export function item(kind: string, ...payload: readonly Buffer[]): Buffer {
  const body = Buffer.concat(payload);
  const head = Buffer.alloc(8);
  head.write(kind, 'latin1');
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body]);
}

export function number32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
}

export interface Chunk {
  id: Buffer;
  item: Buffer;
}

/** A chunk that is stored as it is; of pages in full. */
export function chunkOf(bytes: Buffer): Chunk {
  const pages = bytes.length / pageBytes;
  const hashes = Array.from({ length: pages }, (_, page) =>
    sha256(bytes.subarray(page * pageBytes, (page + 1) * pageBytes)).subarray(0, 16),
  );
  const id = sha256(...hashes);
  return { id, item: item('C', id, Buffer.from([0, pages, 0, 0]), bytes) };
}

/** A list of these ids. */
export function listOf(bytes: number, digest: Buffer, ids: readonly Buffer[]): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes));
  return item('L', number32(0, ids.length), length, digest, ...ids);
}

/** What `torpor-pages export` says of a file: its chunks but for those that are known, then its list. */
export function fileStream(contents: Buffer, known: ReadonlySet<string> = new Set()): Buffer {
  const items: Buffer[] = [];
  const ids: Buffer[] = [];
  const seen = new Set(known);
  for (let at = 0; at < contents.length; at += 16 * pageBytes) {
    const part = contents.subarray(at, at + 16 * pageBytes);
    if (part.every((byte) => byte === 0)) {
      ids.push(Buffer.alloc(32));
      continue;
    }
    const padded = Buffer.alloc(Math.ceil(part.length / pageBytes) * pageBytes);
    part.copy(padded);
    const chunk = chunkOf(padded);
    ids.push(chunk.id);
    if (!seen.has(chunk.id.toString('hex'))) items.push(chunk.item);
    seen.add(chunk.id.toString('hex'));
  }
  return Buffer.concat([...items, listOf(contents.length, sha256(contents), ids)]);
}

/** A memory of which every page is in a chunk. */
export function memoryStream(contents: Buffer): Buffer {
  const chunks = Array.from({ length: contents.length / pageBytes / 4 }, (_, index) =>
    chunkOf(contents.subarray(index * 4 * pageBytes, (index + 1) * 4 * pageBytes)),
  );
  return Buffer.concat([
    ...chunks.map((chunk) => chunk.item),
    listOf(
      contents.length,
      Buffer.alloc(32),
      chunks.map(({ id }) => id),
    ),
  ]);
}

/** The files of a stream that a reader gave, by their paths: contents as far as their length says. */
export function filesIn(stream: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  let path: string | undefined;
  let length = 0;
  let parts: Buffer[] = [];
  const finish = () => {
    if (path !== undefined) files.set(path, Buffer.concat(parts).subarray(0, length));
  };
  for (const { kind, payload } of itemsIn(stream)) {
    if (kind === 'F') {
      finish();
      path = payload.toString('utf8', 24);
      length = Number(payload.readBigUInt64LE(8));
      parts = [];
    } else if (kind === 'C') parts.push(payload.subarray(36));
    else if (kind === 'Z') parts.push(Buffer.alloc(payload.readUInt32LE(0) * pageBytes));
  }
  finish();
  return files;
}

export function* itemsIn(stream: Buffer): Generator<{ kind: string; payload: Buffer }> {
  for (let at = 0; at < stream.length; ) {
    const length = stream.readUInt32LE(at + 4);
    yield { kind: stream.toString('latin1', at, at + 1), payload: stream.subarray(at + 8, at + 8 + length) };
    at += 8 + length;
  }
}

/** The same bytes for the same seed, that no codec makes shorter. */
export function noise(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** `torpor-pages` between files and streams of chunks (docs/chunk-stream.md): packing for a bundle, and unpacking. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { User } from '../capsule/users.ts';
import { identityOptions, lastWordsOf } from '../command.ts';
import { giveKeys, PagesError } from '../store/pages-program.ts';

export type PackSource = { kind: 'memory'; snapshotFolder: string } | { kind: 'file'; path: Buffer };

const lineOf = (source: PackSource) =>
  source.kind === 'memory' ? `S ${source.snapshotFolder}\n` : `F ${source.path.toString('hex')}\n`;

export interface Packing {
  program: string;
  stateDir: string;
  /** Who reads the files; the engine itself where it is not given. */
  user?: User;
  /** Of an encrypted store. */
  keys: Buffer | undefined;
  known: Buffer;
  /** The end of a pipe that the stream goes to. */
  output: number;
  signal: AbortSignal;
}

/** Writes the chunks of these sources to the stream. @throws TorporError where it did not come to the end of it. */
export async function packSources(
  sources: readonly PackSource[],
  { program, stateDir, user, keys, known, output, signal }: Packing,
): Promise<void> {
  if (sources.length === 0) return;
  const child = spawn(
    'setpriv',
    [
      ...(user === undefined ? [] : identityOptions(user)),
      ...['--pdeathsig', 'KILL', '--', program, 'export', '--store', stateDir, '--known-fd', '3'],
      ...(keys === undefined ? [] : ['--key-fd', '4']),
    ],
    { stdio: ['pipe', output, 'pipe', 'pipe', ...(keys === undefined ? [] : ['pipe' as const])], cwd: '/' },
  );
  giveKeys(child, 4, keys);
  (child.stdio[3] as Writable).on('error', () => {}).end(known);
  child.stdin?.on('error', () => {}).end(sources.map(lineOf).join(''));
  const words = lastWordsOf(child);
  const status = await endOf(child, signal);
  if (status !== 0)
    throw new TorporError(
      'failed',
      `What is to go into the bundle could not be read: ${words() || `torpor-pages ended with ${status}`}.`,
      'Check the disk, and the snapshot with `torpor verify --read-data`.',
    );
}

export interface Unpacking {
  program: string;
  /** Where files and folders are made. */
  into: string;
  /** Whose files are the user's; without one all are root's alone. */
  owner?: Pick<User, 'uid' | 'gid'>;
  /** Where memory goes. */
  packs?: string;
  /** Of an encrypted store. */
  keys?: Buffer | undefined;
  input: number;
  signal: AbortSignal;
}

const doneSchema = z.object({ event: z.literal('done'), files: z.number(), storedBytes: z.number() });
const errorSchema = z.object({ event: z.literal('error'), code: z.string(), what: z.string() });

/**
 * Makes files, and packs, of a stream.
 * @returns the bytes that were written to packs.
 * @throws PagesError for what the stream has that it must not have, or the signal's reason.
 */
export async function unpackStream({
  program,
  into,
  owner,
  packs,
  keys,
  input,
  signal,
}: Unpacking): Promise<number> {
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', '--', program, 'import', '--into', into],
      ...(owner === undefined ? [] : ['--owner', `${owner.uid}:${owner.gid}`]),
      ...(packs === undefined ? [] : ['--packs', packs]),
      ...(owner === undefined ? [] : ['--replace']),
      ...(keys === undefined ? [] : ['--key-fd', '3']),
    ],
    { stdio: [input, 'pipe', 'pipe', ...(keys === undefined ? [] : ['pipe' as const])], cwd: '/' },
  );
  giveKeys(child, 3, keys);
  const words = lastWordsOf(child);
  let stored: number | undefined;
  let failure: PagesError | undefined;
  const reading = (async () => {
    for await (const line of createInterface({ input: child.stdout as Readable })) {
      const value: unknown = JSON.parse(line);
      const error = errorSchema.safeParse(value);
      if (error.success) failure = new PagesError(error.data.code, error.data.what);
      const done = doneSchema.safeParse(value);
      if (done.success) stored = done.data.storedBytes;
    }
  })();
  const status = await endOf(child, signal);
  await reading;
  if (failure !== undefined) throw failure;
  if (status === 0 && stored !== undefined) return stored;
  throw new PagesError('EIO', words() || `torpor-pages import ended with ${status}`);
}

/** @throws what the signal was raised with. */
async function endOf(child: ChildProcess, signal: AbortSignal): Promise<number | null> {
  const stop = () => child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  try {
    if (signal.aborted) stop();
    const [status] = (await once(child, 'close')) as [number | null];
    signal.throwIfAborted();
    return status;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/**
 * torpor-bundle, the medium program: reads and writes bundles (docs/bundle-format.md) with the rights of whoever asked for
 * it. Tasks come as lines of JSON on standard input, and what becomes of them goes as such lines to standard output;
 * chunks come and go on descriptor 3, and what is known already is told on descriptor 4.
 */

import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { getSystemErrorName } from 'node:util';
import { z } from 'zod';
import { sentenceOf, TorporError } from '../../../api/errors.ts';
import { changePassphrases, openBundle, openBundleByKey } from './bundle.ts';
import { kdfBounds, usualKdf } from './header.ts';
import { ReadSession } from './read.ts';
import { openInput, StreamError } from './stream.ts';
import { type Doing, errnoOf, explain } from './trouble.ts';
import { WriteSession } from './write.ts';

const dataFd = 3;
const knownFd = 4;
const tellEveryMs = 200;

const count = z.number().int().nonnegative();
const path = z.string();
const owner = z.enum(['root', 'user']);
const kdf = z.object({
  ops: z.number().int().min(kdfBounds.ops.least).max(kdfBounds.ops.most),
  memory: z.number().int().min(kdfBounds.memory.least).max(kdfBounds.memory.most),
});
const passphrases = z.array(z.string());

const tasks = z.discriminatedUnion('task', [
  z.object({
    task: z.literal('write'),
    path,
    form: z.enum(['auto', 'file', 'folder']),
    passphrases: passphrases.min(1),
    kdf: kdf.optional(),
    expected: count,
  }),
  z.object({
    task: z.literal('commit'),
    contents: z.record(z.string(), z.unknown()),
  }),
  z.object({
    task: z.literal('read'),
    path,
    passphrase: z.string().optional(),
    /** All of it is read and authenticated before anything is said of it. */
    check: z.boolean().optional(),
    key: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional(),
  }),
  z.object({ task: z.literal('folder'), path, mode: count, owner }),
  z.object({ task: z.literal('link'), path, target: z.string(), owner }),
  z.object({
    task: z.literal('file'),
    list: count,
    path,
    mode: count,
    owner,
    mtimeNs: z.string().transform((text) => BigInt(text)),
  }),
  z.object({ task: z.literal('memory'), list: count }),
  z.object({ task: z.literal('chunkList'), list: count, path }),
  z.object({ task: z.literal('end') }),
  z.object({
    task: z.literal('passphrases'),
    path,
    passphrase: z.string(),
    add: passphrases,
    remove: passphrases,
    kdf: kdf.optional(),
  }),
]);
type Task = z.infer<typeof tasks>;
type TaskOf<K extends Task['task']> = Extract<Task, { task: K }>;

const tell = (event: Readonly<Record<string, unknown>>) => process.stdout.write(`${JSON.stringify(event)}\n`);

/** Not more often than somebody looks. */
function sparing(): (phase: string, done: number, total: number) => void {
  let last = 0;
  return (phase, done, total) => {
    const now = performance.now();
    if (now - last < tellEveryMs) return;
    last = now;
    tell({ event: 'progress', phase, done, total });
  };
}

class Program {
  #writing: WriteSession | undefined;
  #reading: ReadSession | undefined;
  #path = '';
  #doing: Doing = 'read';
  readonly #progress = sparing();

  async run(): Promise<void> {
    try {
      for await (const line of createInterface({ input: process.stdin }))
        if (await this.#do(tasks.parse(JSON.parse(line)))) return;
    } catch (error) {
      // Who was to read has reasons, and says them.
      if (error instanceof StreamError || errnoOf(error) === 'EPIPE') {
        tell({ event: 'unread' });
        return;
      }
      const known = explain(error, this.#path, this.#doing);
      const { code, hint } = known instanceof TorporError ? known : { code: 'failed', hint: '' };
      if (!(known instanceof TorporError)) process.stderr.write(`${(error as Error).stack}\n`);
      tell({ event: 'error', code, message: sentenceOf(known), hint });
      process.exitCode = 1;
    } finally {
      this.discard();
      await this.#reading?.[Symbol.asyncDispose]();
    }
  }

  /** What is not committed is as if it had never been. */
  discard(): void {
    this.#writing?.discard();
  }

  /** @returns whether that was the last one. */
  async #do(task: Task): Promise<boolean> {
    switch (task.task) {
      case 'write':
        await this.#write(task);
        return false;
      case 'commit':
        await this.#commit(task);
        return true;
      case 'read':
        await this.#read(task);
        return false;
      case 'passphrases':
        [this.#path, this.#doing] = [task.path, 'write'];
        tell({
          event: 'passphrases',
          count: await changePassphrases(task.path, task.passphrase, { ...task, kdf: task.kdf ?? usualKdf }),
        });
        return true;
      default:
        return this.#send(task);
    }
  }

  async #write(task: TaskOf<'write'>): Promise<void> {
    [this.#path, this.#doing] = [task.path, 'write'];
    const session = await WriteSession.begin({ ...task, kdf: task.kdf ?? usualKdf });
    this.#writing = session;
    const { id, generation, isNew, form } = session;
    tell({ event: 'ready', id, generation, isNew, form });
    const known = createWriteStream('', { fd: knownFd });
    known.end(session.known());
    await once(known, 'close');
    await session.receive(openInput(dataFd), {
      list: (source, list) => tell({ event: 'list', source, ...list }),
      unreadable: (source, errno, what) =>
        tell({ event: 'unreadable', source, errno: getSystemErrorName(-errno), what }),
      progress: this.#progress,
    });
  }

  async #commit({ contents }: TaskOf<'commit'>): Promise<void> {
    if (this.#writing === undefined) throw new Error('nothing is being written');
    const committed = await this.#writing.commit(contents, { progress: this.#progress });
    tell({ event: 'done', ...committed });
  }

  async #read(task: TaskOf<'read'>): Promise<void> {
    this.#path = task.path;
    const bundle =
      task.key === undefined
        ? await openBundle(task.path, task.passphrase ?? '')
        : await openBundleByKey(task.path, Buffer.from(task.key, 'hex'));
    this.#reading = new ReadSession(bundle, dataFd, (done, total) => this.#progress('read', done, total));
    if (task.check) await this.#reading.check((done, total) => this.#progress('verify', done, total));
    const { stored, header, catalogue, passedOver = null, catalogueBytes } = bundle;
    tell({
      event: 'opened',
      id: header.id.toString('hex'),
      key: header.key.toString('hex'),
      form: stored.kind,
      passedOver,
      generation: catalogue.generation,
      contents: catalogue.contents,
      lists: catalogue.lists.map((list) => ({
        bytes: list?.bytes ?? 0,
        sha256: list?.sha256 ?? '',
        chunks: list?.chunks.length ?? 0,
      })),
      bytes: catalogue.packs.reduce((sum, pack) => sum + pack.bytes, catalogueBytes),
    });
  }

  async #send(task: Exclude<Task, TaskOf<'write' | 'commit' | 'read' | 'passphrases'>>): Promise<boolean> {
    const reading = this.#reading;
    if (reading === undefined) throw new Error('nothing is open');
    switch (task.task) {
      case 'folder':
        await reading.folder(task.path, task.mode, task.owner);
        return false;
      case 'link':
        await reading.link(task.path, task.target, task.owner);
        return false;
      case 'file':
        await reading.file(task);
        return false;
      case 'memory':
        await reading.memory(task.list);
        return false;
      case 'chunkList':
        await reading.chunkList(task.list, task.path);
        return false;
      case 'end':
        await reading.end();
        tell({ event: 'sent' });
        return true;
    }
  }
}

const program = new Program();
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
  process.once(signal, () => {
    program.discard();
    process.exit(1);
  });
await program.run();
// Descriptor 3 may still be open at its other end.
process.exit();

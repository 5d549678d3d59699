/**
 * `torpor-bundle`: reads and writes bundles (docs/bundle-format.md) with the rights of whoever they belong to. It is told
 * what to do by lines of JSON on standard input, and answers by such lines on standard output. A writer gets the stream of
 * chunks on descriptor 3 and gives the ids of those that it has on 4; a reader gives its stream on 3.
 */
import { once } from 'node:events';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { TorporError } from '../../../api/errors.ts';
import { changePassphrases } from './bundle.ts';
import type { Draft } from './form.ts';
import { Reading } from './reading.ts';
import { Output, openInput, pageBytes, readItems, StreamError } from './stream.ts';
import { type FirstTask, parseCommit, parseFirst, parseRead, type ReadTask } from './tasks.ts';
import { type Doing, explain } from './trouble.ts';
import { type Answer, Writing } from './writing.ts';

const streamFd = 3;
const knownFd = 4;
const progressMs = 200;

/** What must not stay behind when this program is ended. */
let draft: Draft | undefined;

type Lines = AsyncIterator<string>;

const emit = (event: Record<string, unknown>): void => {
  process.stdout.write(`${JSON.stringify(event)}\n`);
};

/** Says how far it is, not more often than anybody can read. `total` is 0 where nobody knows. */
function progress(phase: 'write' | 'verify' | 'read'): (done: number, total: number) => void {
  let last = 0;
  return (done, total) => {
    const now = Date.now();
    if (now - last < progressMs) return;
    last = now;
    emit({ event: 'progress', phase, done, total });
  };
}

async function nextLine(lines: Lines): Promise<string | undefined> {
  const { value, done } = await lines.next();
  return done ? undefined : value;
}

async function write(task: Extract<FirstTask, { task: 'write' }>, lines: Lines): Promise<void> {
  const writing = await Writing.begin(task, (begun) => {
    draft = begun;
  });
  emit({ event: 'ready', ...writing.ready });
  await giveKnown(writing.knownIds());
  const wrote = progress('write');
  let listed = 0;
  let pending = 0;
  const answer = (said: Answer | undefined): void => {
    if (said !== undefined) emit({ ...said });
  };
  await readItems(openInput(streamFd), (item) => {
    if (item.kind === 'chunk') pending += item.pages * pageBytes;
    else pending = 0;
    if (item.kind === 'list') listed += item.bytes;
    wrote(Math.min(listed + pending, task.sourceBytes), task.sourceBytes);
    const said = writing.take(item);
    if (said instanceof Promise) return said.then(answer);
    answer(said);
    return undefined;
  });
  const line = await nextLine(lines);
  if (line === undefined)
    throw new TorporError('failed', 'The export was given up before its end. The bundle is as it was.');
  const { contents, beside } = parseCommit(line);
  emit({ event: 'done', ...(await writing.commit(contents, beside, progress('verify'))) });
  await writing.close();
}

/** Who does not want to know them has closed the other end. */
async function giveKnown(ids: Buffer): Promise<void> {
  const socket = new Socket({ fd: knownFd, readable: false, writable: true });
  const closed = once(socket, 'close').catch(() => {});
  socket.on('error', () => {});
  socket.end(ids, () => socket.destroy());
  await closed;
}

async function read(task: Extract<FirstTask, { task: 'read' }>, lines: Lines): Promise<void> {
  let done = 0;
  let total = 0;
  const say = progress('read');
  await using reading = await Reading.open(task.path, task.by, (bytes) => {
    done += bytes;
    say(done, total);
  });
  total = reading.packBytes;
  emit({ event: 'opened', ...reading.opened });
  let output: Output | undefined;
  for (let line = await nextLine(lines); line !== undefined; line = await nextLine(lines)) {
    const next = parseRead(line);
    if (next.task === 'check') {
      const chunks = await reading.check();
      emit({ event: 'checked', chunks, bytes: reading.opened.bytes });
      continue;
    }
    output ??= new Output(streamFd);
    if (next.task === 'end') {
      await output.end();
      emit({ event: 'done', bytes: done });
      return;
    }
    await give(reading, output, next);
  }
}

async function give(
  reading: Reading,
  output: Output,
  task: Exclude<ReadTask, { task: 'check' | 'end' }>,
): Promise<void> {
  switch (task.task) {
    case 'folder':
      return await reading.folder(output, task);
    case 'link':
      return await reading.link(output, task);
    case 'file':
      return await reading.file(output, task);
    case 'memory':
      return await reading.memory(output, task);
    case 'chunkList':
      return await reading.chunkList(output, task);
  }
}

async function run(): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const line = await nextLine(lines);
  if (line === undefined) return;
  const task = parseFirst(line);
  const doing: Doing = task.task === 'read' ? 'read' : 'write';
  try {
    switch (task.task) {
      case 'write':
        return await write(task, lines);
      case 'try':
        await Writing.tryOut(task);
        return emit({ event: 'tried' });
      case 'read':
        return await read(task, lines);
      case 'passphrases': {
        const passphrases = await changePassphrases(task.path, task.passphrase, task);
        emit({ event: 'done', passphrases });
      }
    }
  } catch (error) {
    // Who was to read it has reasons, and says them.
    if (error instanceof StreamError && task.task === 'read') return emit({ event: 'unread' });
    if (error instanceof StreamError)
      throw new TorporError(
        'failed',
        `The other end of torpor-bundle's stream is at fault: ${error.message}. The bundle ${task.path} is as it was.`,
        'Try again. If it comes back, it is a defect of Torpor.',
      );
    throw explain(error, task.path, doing);
  }
}

process.on('SIGTERM', () => {
  draft?.discard();
  process.exit(143);
});
// Whoever is told is gone: what is done is done to its end, or fails by itself.
process.stdout.on('error', () => {});

try {
  await run();
  process.exit(0);
} catch (error) {
  draft?.discard();
  if (!(error instanceof TorporError)) {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    emit({
      event: 'error',
      code: 'failed',
      message: `torpor-bundle has a defect: ${String(error)}`,
      hint: '',
    });
  } else {
    const { code, message, hint, details } = error;
    emit({ event: 'error', code, message, hint, details });
  }
  process.exit(1);
}

/**
 * Keeps the terminal of a job: holds its master side, so that it outlives the engine and everyone who looks at it, knows
 * what it shows, and lets any number of viewers attach, detach and attach again. A program of its own, one a job; it runs
 * as the job's user, for what a job prints is anybody's.
 */
import { readFileSync, write as writeFd } from 'node:fs';
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ReadStream } from 'node:tty';
import {
  encodeTerminalFrame,
  type TerminalEnd,
  TerminalFrameReader,
  type TerminalSize,
} from '../../api/terminal-stream.ts';
import { type Exit, exitSchema } from '../../api/types.ts';
import { readsKeys, setWindowSize } from '../../native/terminal.ts';
import { Screen } from './screen.ts';

/** native/room.c puts the master there. */
const masterFd = 3;
/** A viewer that is so far behind is left out, and shown the whole once it has caught up. */
const behindBytes = 4 * 1024 * 1024;
/** No more than this is read ahead of what is drawn: the job waits, as it does for any terminal. */
const undrawnBytes = 256 * 1024;
/** What a terminal that hangs up still had to say comes within this time. */
const quietMs = 15;
const retryMs = 10;
const exitLimitMs = 2000;
/** A program that is asked to draw again begins at once, and has drawn when it says no more for a while. */
const redrawLimitMs = 400;
const otherSizeMs = 40;
const redrawnMs = 60;
/** The whole screen is cleared, as full-screen programs begin to draw, and shells and prompts do not. */
const clearing = ['\x1b[2J', '\x1b[H\x1b[J', '\x1b[H\x1b[0J', '\x1b[1;1H\x1b[J'];
/** The alternate screen, and cursor keys and keypad that are the application's. */
const fullScreen = '\x1b[?1049h\x1b[?1h\x1b=';

export interface KeeperOptions {
  /** The job's run folder. */
  folder: string;
  uid: number;
  gid: number;
  size: TerminalSize;
  /** A file with what the terminal showed when the job was suspended; it need not be there. */
  screenFile: string;
}

interface Viewer {
  socket: Socket;
  /** It has said how large it is, and is shown everything. */
  isShown: boolean;
  isBehind: boolean;
}

class Keeper {
  readonly #options: KeeperOptions;
  readonly #screen: Screen;
  readonly #viewers = new Set<Viewer>();
  readonly #input: Buffer[] = [];
  #size: TerminalSize;
  /** Where nothing is known of what the terminal shows: when that will be found out, by asking whoever draws there. */
  #known: Promise<void> | undefined;
  #isUnknown = false;
  /** What comes while that is found out. */
  #heldBack: Buffer[] | undefined;
  #isWriting = false;
  #undrawn = 0;
  #lastOutputAt = 0;
  #ended = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#size = options.size;
    this.#screen = new Screen(options.size);
  }

  async run(): Promise<void> {
    const { folder, uid, gid, screenFile } = this.#options;
    let saved: string | undefined;
    try {
      saved = readFileSync(screenFile, 'utf8');
    } catch {
      this.#isUnknown = true;
    }
    const engine = await listen(join(folder, 'keeper'), (socket) => void this.#answerEngine(socket));
    becomeUser(uid, gid);
    // In a folder of the user's own, where root must not act by names.
    const viewers = await listen(join(folder, 'terminal', 'socket'), (socket) => this.#welcome(socket));
    if (saved !== undefined) await this.#screen.write(saved);
    this.#screen.onAnswer((answer) => {
      // A viewer's own terminal answers by itself.
      if (this.#viewers.size === 0) this.#type(Buffer.from(answer));
    });
    const master = new ReadStream(masterFd);
    master.on('data', (bytes: Buffer) => this.#draw(master, bytes));
    const hungUp = new Promise<void>((resolve) => {
      master.once('error', () => resolve());
      master.once('end', () => resolve());
    });
    const asked = new Promise<void>((resolve) => process.once('SIGTERM', () => resolve()));
    const end = await Promise.race([
      hungUp.then(async (): Promise<TerminalEnd> => ({ kind: 'ended', ...(await this.#exit()) })),
      asked.then((): TerminalEnd => ({ kind: 'suspended' })),
    ]);
    await this.#finish(end, [viewers, engine]);
  }

  /** The terminal may hang up a moment before it is told how its job ended. */
  async #exit(): Promise<{ exit?: Exit }> {
    for (const end = Date.now() + exitLimitMs; Date.now() < end; await sleep(retryMs)) {
      try {
        return {
          exit: exitSchema.parse(JSON.parse(readFileSync(join(this.#options.folder, 'exit'), 'utf8'))),
        };
      } catch {}
    }
    return {};
  }

  #draw(master: ReadStream, bytes: Buffer): void {
    this.#lastOutputAt = Date.now();
    if (this.#heldBack !== undefined) {
      this.#heldBack.push(bytes);
      return;
    }
    this.#undrawn += bytes.length;
    if (this.#undrawn > undrawnBytes) master.pause();
    void this.#screen.write(bytes).then(() => {
      this.#undrawn -= bytes.length;
      if (this.#undrawn > 0 || !master.isPaused()) return;
      this.#lastOutputAt = Date.now();
      master.resume();
    });
    for (const viewer of this.#viewers) if (viewer.isShown) this.#show(viewer, bytes);
  }

  #show(viewer: Viewer, bytes: Uint8Array): void {
    if (viewer.isBehind || viewer.socket.writableEnded) return;
    viewer.socket.write(encodeTerminalFrame({ kind: 'data', bytes }));
    if (viewer.socket.writableLength < behindBytes) return;
    viewer.isBehind = true;
    viewer.socket.once('drain', () => {
      void this.#redraw(viewer);
    });
  }

  async #redraw(viewer: Viewer): Promise<void> {
    // What has come in until now is drawn; what comes from now on follows the redraw.
    await this.#screen.write('');
    const whole = viewer.isShown ? this.#screen.redraw() : this.#screen.firstDraw();
    viewer.isShown = true;
    viewer.isBehind = false;
    this.#show(viewer, Buffer.from(whole));
  }

  #welcome(socket: Socket): void {
    const viewer: Viewer = { socket, isShown: false, isBehind: false };
    const reader = new TerminalFrameReader();
    this.#viewers.add(viewer);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#viewers.delete(viewer));
    socket.on('data', (bytes) => {
      try {
        for (const frame of reader.push(bytes)) {
          if (frame.kind === 'data') this.#type(Buffer.from(frame.bytes));
          else if (frame.kind === 'size') void this.#resize(viewer, frame.size);
          else if (frame.kind === 'leave') void this.#sayGoodbye(viewer, { kind: 'left' });
        }
      } catch {
        socket.destroy();
      }
    });
  }

  async #resize(viewer: Viewer, size: TerminalSize): Promise<void> {
    const isFirst = !viewer.isShown;
    this.#size = size;
    this.#screen.resize(size);
    if (this.#isUnknown) {
      this.#isUnknown = false;
      this.#known = this.#learn();
    } else {
      setWindowSize(masterFd, size);
    }
    await this.#known;
    if (isFirst) await this.#redraw(viewer);
  }

  /** Has a program that draws full screens draw again, and takes the terminal for what such programs make of it. */
  async #learn(): Promise<void> {
    const held: Buffer[] = [];
    if (readsKeys(masterFd)) this.#heldBack = held;
    // The kernel tells programs of a change only, and they look for it again before they draw.
    setWindowSize(masterFd, { columns: this.#size.columns, rows: this.#size.rows + 1 });
    await sleep(otherSizeMs);
    setWindowSize(masterFd, this.#size);
    if (this.#heldBack === undefined) return;
    const limit = Date.now() + redrawLimitMs;
    const isDrawing = () => held.length === 0 || Date.now() - this.#lastOutputAt < redrawnMs;
    while (Date.now() < limit && isDrawing()) await sleep(retryMs);
    this.#heldBack = undefined;
    const drawn = Buffer.concat(held);
    if (clearing.some((sequence) => drawn.includes(sequence))) void this.#screen.write(fullScreen);
    void this.#screen.write(drawn);
  }

  #type(bytes: Buffer): void {
    this.#input.push(bytes);
    if (!this.#isWriting) this.#writeInput();
  }

  #writeInput(): void {
    const next = this.#input.shift();
    this.#isWriting = next !== undefined && !this.#ended;
    if (next === undefined || this.#ended) return;
    writeFd(masterFd, next, (error, written) => {
      if (error?.code === 'EAGAIN') {
        this.#input.unshift(next);
        setTimeout(() => this.#writeInput(), retryMs);
        return;
      }
      if (error === null && written < next.length) this.#input.unshift(next.subarray(written));
      this.#writeInput();
    });
  }

  /** The engine asks for what the terminal shows, while the job stands still. */
  async #answerEngine(socket: Socket): Promise<void> {
    socket.on('error', () => socket.destroy());
    do await sleep(quietMs);
    while (this.#undrawn > 0 || Date.now() - this.#lastOutputAt < quietMs);
    await this.#screen.write('');
    socket.end(this.#screen.contents());
  }

  async #sayGoodbye(viewer: Viewer, end: TerminalEnd): Promise<void> {
    await this.#known;
    await this.#screen.write('');
    const last = `${this.#missedBy(viewer, end)}${this.#screen.farewell()}`;
    viewer.isShown = false;
    viewer.socket.write(encodeTerminalFrame({ kind: 'data', bytes: Buffer.from(last) }));
    await new Promise<void>((resolve) => {
      viewer.socket.once('close', () => resolve());
      viewer.socket.end(encodeTerminalFrame({ kind: 'end', end }), () => resolve());
    });
  }

  /** Who has come just before the end has not been shown anything yet. */
  #missedBy({ isShown, isBehind }: Viewer, { kind }: TerminalEnd): string {
    if (!isShown) return kind === 'left' ? '' : this.#screen.firstDraw();
    return isBehind ? this.#screen.redraw() : '';
  }

  async #finish(end: TerminalEnd, servers: readonly Server[]): Promise<void> {
    this.#ended = true;
    for (const server of servers) server.close();
    await Promise.all([...this.#viewers].map((viewer) => this.#sayGoodbye(viewer, end)));
  }
}

async function listen(path: string, serve: (socket: Socket) => void): Promise<Server> {
  await rm(path, { force: true });
  const server = createServer(serve);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  await chmod(path, 0o600);
  return server;
}

function becomeUser(uid: number, gid: number): void {
  if (uid === 0) return;
  process.setgroups?.([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

/** Keeps the terminal until it hangs up or the program is asked to end (SIGTERM). */
export async function keepTerminal(options: KeeperOptions): Promise<void> {
  await new Keeper(options).run();
}

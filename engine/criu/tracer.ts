/**
 * The process that traces for a CRIU that dumps, so that what is dumped keeps a tracer when CRIU is killed: a native
 * program, see docs/decisions/0006-tracer.md. It ends by itself: when CRIU has ended and everything is detached.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { openSeqpacketPeers, type PeerDescriptor } from '../../native/seqpacket.ts';

export interface TracerPaths {
  program: string;
  /** Preload library of CRIU that hands its ptrace calls over. */
  preload: string;
}

export class Tracer {
  readonly #child: ChildProcess;
  /** Resolves, once it has ended, with what it said. */
  readonly ended: Promise<string>;
  readonly preload: string;

  private constructor(child: ChildProcess, preload: string) {
    this.#child = child;
    this.preload = preload;
    let words = '';
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (text: string) => {
      words += text;
    });
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (_status, signal) =>
        resolve(signal === null ? words.trim() : `it was ended by ${signal}`),
      );
    });
  }

  /**
   * Starts one. @returns it and CRIU's end of the connection to it; undefined where it is not there or cannot be
   * started: then CRIU traces for itself.
   * @param prefix what it is started by.
   */
  static start(
    paths: TracerPaths,
    prefix: readonly string[] = [],
  ): { tracer: Tracer; socket: PeerDescriptor } | undefined {
    if (!existsSync(paths.program) || !existsSync(paths.preload)) return undefined;
    const [own, socket] = openSeqpacketPeers();
    using _own = own;
    // In a session of its own: it must not be ended with CRIU or the engine.
    const [program = paths.program, ...args] = [...prefix, paths.program];
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe', own.fd],
      env: {},
      cwd: '/',
      detached: true,
    });
    const tracer = new Tracer(child, paths.preload);
    if (child.pid !== undefined) return { tracer, socket };
    socket[Symbol.dispose]();
    return undefined;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }
}

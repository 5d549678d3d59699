/**
 * CRIU, driven by its RPC: each operation is one `criu swrk` child with a SOCK_SEQPACKET socket as descriptor 3, one
 * request, notifications that CRIU waits on until they are answered, and one response. An operation ends only when
 * its process has: nothing of CRIU outlives the promise. Its log is left where the caller wanted it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TorporError } from '../../api/errors.ts';
import {
  openSeqpacketPair,
  type PeerDescriptor,
  type SeqpacketSocket,
  SocketError,
} from '../../native/seqpacket.ts';
import { type CriuResponse, criuRequest, criuResponse, requestType } from '../../proto/criu-rpc.ts';
import { decode, encode, type InputOf } from '../../proto/wire.ts';
import { runCommand } from '../command.ts';
import type { Logger } from '../log.ts';
import { endSession, identify, type ProcessIdentity, signalProcess } from '../process.ts';
import { CriuError, type CriuExit, type CriuOperation } from './criu-error.ts';
import {
  type DumpOptions,
  dumpOptions,
  type Folders,
  type PreparedOptions,
  type RestoreOptions,
  restoreOptions,
} from './options.ts';
import { Semaphore } from './semaphore.ts';
import { Tracer, type TracerPaths } from './tracer.ts';

export interface CriuVersion {
  major: number;
  minor: number;
  sublevel: number;
  /** As people write it: `4.2.1`. */
  text: string;
}

/** A pid namespace other than this process's, in which CRIU and what it works on have other pids. */
export interface CriuRoom {
  /** What takes the tracer there, as the prefix does CRIU; must exec its arguments and keep descriptors. */
  tracerPrefix: readonly string[];
  /** The host's number of a process there. */
  hostPid: (pid: number) => Promise<number | undefined>;
}

/** What kernel and CRIU offer together. */
export interface CriuFeatures {
  /** Soft-dirty tracking. Without it a pre-dump aborts CRIU. */
  memoryTracking: boolean;
  lazyPages: boolean;
  pidfdStore: boolean;
}

export interface CheckResult {
  ok: boolean;
  /** CRIU's own words on what the kernel lacks. */
  errors: string[];
}

/** In the order in which CRIU sends them. A refusal cancels the dump at either, and the target runs on. */
export type DumpNotification = 'pre-dump' | 'query-ext-files' | 'post-dump';
/**
 * In the order in which CRIU sends them. A refusal cancels the restore; `post-restore` is the last moment before
 * anything runs. Later ones CRIU lets nobody refuse: there the client ends the restored root itself.
 */
export type RestoreNotification =
  | 'pre-restore'
  | 'setup-namespaces'
  | 'post-setup-namespaces'
  | 'post-restore'
  | 'pre-resume'
  | 'post-resume';

/** @param pid the restored root, as the host counts; given with `setup-namespaces` and `post-restore`. */
export type NotificationHandler = (pid?: number) => Promise<void> | void;

export interface OperationHandlers<N extends string> {
  /** A handler that throws cancels the operation, which then rejects with that very error. */
  onNotify?: Partial<Record<N, NotificationHandler>>;
  /**
   * CRIU's process is there, and the one that traces for it where that is not CRIU itself. A throw ends it before it is
   * asked for anything.
   */
  onStarted?: (pid: number, tracer?: number) => Promise<void> | void;
  /**
   * Cancels at the next notification. Where none comes within {@link abortGraceMs}, CRIU is ended: its target survives
   * that, thanks to the tracer, and a half-restored tree is ended with it. A handler that is running when it comes decides for itself. Once
   * the last notification that can cancel has been answered it is too late, and the operation completes.
   */
  signal?: AbortSignal;
  /** Descriptor to be CRIU's standard input: the terminal of a job. */
  terminal?: number;
}

/** What is asked once and remembered for all clients of one CRIU; a failure is not remembered. */
export class CriuFacts {
  readonly #known = new Map<string, Promise<unknown>>();

  /** The remembered answer, or a new one. */
  get<T>(question: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#known.get(question) as Promise<T> | undefined;
    if (known !== undefined) return known;
    const answer = ask();
    this.#known.set(question, answer);
    answer.catch(() => this.#known.delete(question));
    return answer;
  }
}

export interface CriuClientOptions {
  criuPath: string;
  /** CRIU's environment; this process's own if not given. */
  env?: NodeJS.ProcessEnv;
  /** What CRIU is started by, such as `torpor-capsule with-root ... --`; must exec its arguments and keep descriptors. */
  spawnPrefix?: readonly string[];
  /** What CRIU works in where that is not this process's own pid namespace; the prefix takes it there. */
  room?: CriuRoom;
  /** Preload library that answers for limits root may not read; used where root lacks CAP_SYS_RESOURCE. */
  rlimitPreload?: string;
  /** Preload library for restores: what is being restored ends with a CRIU that is killed. */
  restorePreload?: string;
  /** Preload library for dumps that leaves out pages which a snapshot has already. */
  unwrittenPreload?: string;
  /** Folder that has our plugin and nothing else: CRIU loads what it finds there, as root. */
  pluginFolder?: string;
  /** Folder of programs that CRIU finds before those of the machine. */
  programFolder?: string;
  /** What traces for CRIU in a dump. Where it is not there, CRIU does, and its target may die with it. */
  tracer?: TracerPaths;
  logger: Pick<Logger, 'debug' | 'warn'>;
  facts?: CriuFacts;
  /** Its operations have their places already. */
  hasPlaces?: boolean;
}

/** How long an abort waits for a notification before CRIU is ended, in milliseconds. */
export const abortGraceMs = 5000;
/** CRIU exits at once after its response; one that does not hangs. */
const exitLimitMs = 10_000;
/** The tracer is done in milliseconds, except on a busy machine or with processes that somebody else keeps frozen. */
const tracerLimitMs = 6000;
/** CRIU's last words arrive with its end, or not at all. */
const lastWordsMs = 200;
const stderrLimit = 64 * 1024;

/**
 * Every operation keeps one thread of libuv's pool in a blocking receive, so the engine is started with
 * UV_THREADPOOL_SIZE=64 and at most this many operations run at once, whatever the number of clients. Handlers must
 * therefore not wait for an operation that may still be queueing, except for those of the same set: it gets places for
 * all of them beforehand, out of others, one set at a time.
 */
const operationLimit = 4;
const operations = new Semaphore(operationLimit);
/** Most operations that can wait for each other. */
export const setLimit = 40;
const sets = new Semaphore(1);

/** The last notification whose refusal cancels. */
const lastVeto: Partial<Record<CriuOperation, string>> = { dump: 'post-dump', restore: 'post-restore' };

interface Conversation {
  operation: CriuOperation;
  request: InputOf<typeof criuRequest>;
  fds?: readonly number[];
  logPath?: string;
  socketPlan?: string | undefined;
  leftOut?: string | undefined;
  workDir?: string;
  handlers?: OperationHandlers<string>;
}

/** A tracer, and the end of the connection to it that CRIU is to have. */
interface Tracing {
  tracer: Tracer;
  socket: PeerDescriptor;
}

interface Outcome {
  response: CriuResponse | undefined;
  exit: CriuExit;
  stderr: string;
}

export class CriuClient {
  readonly #options: CriuClientOptions;
  readonly #facts: CriuFacts;

  constructor(options: CriuClientOptions) {
    this.#options = options;
    this.#facts = options.facts ?? new CriuFacts();
  }

  /** The same CRIU started by something else, sharing what is known about it. */
  withPrefix(spawnPrefix: readonly string[], room?: CriuRoom): CriuClient {
    const options = { ...this.#options, spawnPrefix, facts: this.#facts };
    return new CriuClient(room === undefined ? options : { ...options, room });
  }

  /**
   * Places for operations that wait for each other, so many of them at once; to be disposed of after them.
   * @throws TorporError `usage` where they are too many.
   */
  async forSet(members: number, signal: AbortSignal): Promise<Disposable> {
    if (members > setLimit) {
      throw new TorporError(
        'usage',
        `${members} workloads are too many to be suspended or resumed at one instant.`,
        `Name at most ${setLimit} at a time.`,
      );
    }
    return await sets.acquire(signal);
  }

  /** For operations of a set that {@link forSet} has given places. */
  inSet(): CriuClient {
    return new CriuClient({ ...this.#options, hasPlaces: true, facts: this.#facts });
  }

  /** CRIU's version; asked once. @throws TorporError where CRIU is missing or does not start. */
  version(): Promise<CriuVersion> {
    return this.#facts.get('version', async () => {
      const { version } = await this.#ask({ operation: 'version', request: { type: requestType.version } });
      const { major = 0, minor = 0, sublevel = 0 } = version ?? {};
      return { major, minor, sublevel, text: [major, minor, ...(sublevel ? [sublevel] : [])].join('.') };
    });
  }

  /** What CRIU can do under this kernel; asked once. */
  features(): Promise<CriuFeatures> {
    return this.#facts.get('features', async () => {
      const { features } = await this.#ask({
        operation: 'features',
        request: {
          type: requestType.featureCheck,
          features: { memTrack: true, lazyPages: true, pidfdStore: true },
        },
      });
      return {
        memoryTracking: features?.memTrack ?? false,
        lazyPages: features?.lazyPages ?? false,
        pidfdStore: features?.pidfdStore ?? false,
      };
    });
  }

  /** Whether the kernel can keep the packets of connections away, by nftables; asked once. */
  canLockConnections(): Promise<boolean> {
    return this.#facts.get('network-lock', async () => {
      const { criuPath, env } = this.#options;
      const args = ['check', '--feature', 'network_lock_nftables'];
      return (await runCommand(criuPath, args, env === undefined ? {} : { env })).status === 0;
    });
  }

  /** `criu check`: whether this kernel has what every dump needs. */
  async check(): Promise<CheckResult> {
    try {
      await this.#ask({ operation: 'check', request: { type: requestType.check } });
      return { ok: true, errors: [] };
    } catch (error) {
      if (!(error instanceof CriuError)) throw error;
      const errors = error.details.errors as string[];
      return { ok: false, errors: errors.length > 0 ? errors : [error.message] };
    }
  }

  /**
   * Checkpoints a process tree. Where it rejects, the tree runs on, except after an abrupt end of CRIU: the caller
   * that gave `freezeCgroup` thaws that cgroup then.
   * @throws CriuError; whatever a handler threw; the signal's reason.
   */
  async dump(options: DumpOptions, handlers: OperationHandlers<DumpNotification> = {}): Promise<void> {
    await this.#withFolders(options, (folders) =>
      this.#operate('dump', options, dumpOptions(options, folders), handlers),
    );
  }

  /**
   * Restores a process tree, which becomes a child of this host's init.
   * @returns its root, as the host counts pids.
   * @throws CriuError; whatever a handler threw; the signal's reason. Nothing of the tree runs then.
   */
  async restore(
    options: RestoreOptions,
    handlers: OperationHandlers<RestoreNotification> = {},
  ): Promise<{ pid: number }> {
    const response = await this.#withFolders(options, (folders) =>
      this.#operate('restore', options, restoreOptions(options, folders), handlers),
    );
    return { pid: response.restore?.pid ?? -1 };
  }

  async #withFolders<T>(
    options: { imagesDir: string; workDir?: string },
    use: (folders: Folders) => Promise<T>,
  ): Promise<T> {
    if (this.#options.room !== undefined) return await use({ kind: 'path', images: options.imagesDir });
    await using images = await openFolder(options.imagesDir, 'images');
    const kind = 'descriptors';
    if (options.workDir === undefined) return await use({ kind, images: images.fd, work: undefined });
    await using work = await openFolder(options.workDir, 'work');
    return await use({ kind, images: images.fd, work: work.fd });
  }

  async #operate(
    operation: 'dump' | 'restore',
    {
      imagesDir,
      workDir,
      logFile,
      socketPlan,
      leftOut,
    }: {
      imagesDir: string;
      workDir?: string;
      logFile: string;
      socketPlan?: string;
      leftOut?: string | undefined;
    },
    { wire, fds }: PreparedOptions,
    handlers: OperationHandlers<string>,
  ): Promise<CriuResponse> {
    const logPath = join(workDir ?? imagesDir, logFile);
    // Where CRIU fails before it opens its log, that of an earlier attempt must not explain this one.
    await rm(logPath, { force: true });
    const request = { type: requestType[operation], opts: wire };
    return await this.#ask({
      operation,
      request,
      fds,
      socketPlan,
      leftOut,
      handlers,
      logPath,
      workDir: workDir ?? imagesDir,
    });
  }

  /** One whole operation. @returns the response, a successful one. */
  async #ask(conversation: Conversation): Promise<CriuResponse> {
    const { operation, handlers, logPath } = conversation;
    using _place = this.#options.hasPlaces ? undefined : await operations.acquire(handlers?.signal);
    const startedAt = performance.now();
    const { response, exit, stderr } = await this.#converse(conversation);
    this.#options.logger.debug(
      { operation, milliseconds: performance.now() - startedAt, success: response?.success, exit },
      'criu',
    );
    if (response?.success) return response;
    throw await CriuError.of({ operation, exit, stderr, errno: response?.errno, logPath });
  }

  async #converse(conversation: Conversation): Promise<Outcome> {
    const { handlers = {}, operation } = conversation;
    const { ours, peer } = openSeqpacketPair();
    await using socket = ours;
    // A restored tree is CRIU's own.
    const tracing = operation === 'dump' ? this.#startTracer() : undefined;
    let child: CriuChild;
    try {
      child = this.#start(peer.fd, conversation, tracing);
    } finally {
      // Held by CRIU alone from here on, so that its end is seen as the end of the connection.
      peer[Symbol.dispose]();
      tracing?.socket[Symbol.dispose]();
    }
    const exited = child.exit.finally(async () => {
      // A half-restored tree may hold the socket as well: what counts is CRIU's own end.
      socket.shutdown();
      await this.#awaitTracer(tracing?.tracer);
    });
    exited.catch(() => {});
    const hostPid = this.#options.room?.hostPid ?? (async (pid: number) => pid);
    const talk = new Talk(socket, operation, handlers, hostPid, () => child.kill());
    try {
      await child.started;
      await handlers.onStarted?.(child.pid, tracing?.tracer.pid);
      handlers.signal?.throwIfAborted();
      const response = await talk.run(encode(criuRequest, conversation.request));
      const exit = await this.#awaitExit(child, exited, operation);
      await talk.settle(response?.success ?? false);
      return { response, exit, stderr: child.stderr() };
    } catch (error) {
      child.kill();
      await exited.catch(() => {});
      await talk.settle(false).catch(() => {});
      throw error;
    }
  }

  async #awaitExit(child: CriuChild, exited: Promise<CriuExit>, operation: string): Promise<CriuExit> {
    const limit = setTimeout(() => {
      this.#options.logger.warn({ operation, pid: child.pid }, 'criu did not exit after its response');
      child.kill();
    }, exitLimitMs);
    try {
      return await exited;
    } finally {
      clearTimeout(limit);
    }
  }

  #startTracer(): Tracing | undefined {
    const { tracer, logger } = this.#options;
    if (tracer === undefined) return undefined;
    const tracing = Tracer.start(tracer, this.#options.room?.tracerPrefix);
    if (tracing === undefined)
      logger.warn({ ...tracer }, 'the tracer cannot be started; criu traces by itself');
    return tracing;
  }

  /** Only when the tracer has ended, too, is the target as it was, and may be looked at, thawed and dumped again. */
  async #awaitTracer(tracer: Tracer | undefined): Promise<void> {
    if (tracer === undefined) return;
    const limit = sleep(tracerLimitMs, undefined, { ref: false });
    const words = await Promise.race([tracer.ended, limit]);
    if (words === undefined)
      this.#options.logger.warn({ pid: tracer.pid }, 'the tracer waits for what does not stop');
    else if (words !== '') this.#options.logger.warn({ pid: tracer.pid, words }, 'tracer');
  }

  #start(
    socketFd: number,
    { operation, fds = [], handlers = {}, workDir, socketPlan, leftOut }: Conversation,
    tracing: Tracing | undefined,
  ): CriuChild {
    const { criuPath, spawnPrefix = [], room } = this.#options;
    const { terminal } = handlers;
    const settings = room === undefined || workDir === undefined ? [] : ['--work-dir', workDir];
    const [program = criuPath, ...args] = [...spawnPrefix, criuPath, ...settings, 'swrk', '3'];
    const stdio = [terminal ?? 'ignore', 'ignore', 'pipe', socketFd, ...fds] as const;
    // What a job is restored to is the session of its terminal; any other CRIU has one of its own, to be ended with it.
    const ownSession = terminal === undefined;
    const child = spawn(program, args, {
      stdio: [...stdio, ...(tracing === undefined ? [] : [tracing.socket.fd])],
      env: this.#environment(
        operation,
        tracing && { preload: tracing.tracer.preload, socket: stdio.length },
        socketPlan,
        leftOut,
      ),
      detached: ownSession,
    });
    return new CriuChild(child, program, ownSession);
  }

  #environment(
    operation: CriuOperation,
    tracer: { preload: string; socket: number } | undefined,
    socketPlan: string | undefined,
    leftOut: string | undefined,
  ): NodeJS.ProcessEnv {
    const {
      env = process.env,
      rlimitPreload,
      restorePreload,
      unwrittenPreload,
      pluginFolder,
      programFolder,
    } = this.#options;
    const answersForLimits =
      rlimitPreload !== undefined && !mayReadForeignLimits() && existsSync(rlimitPreload);
    const preloads = [
      env.LD_PRELOAD,
      tracer?.preload,
      answersForLimits ? rlimitPreload : undefined,
      operation === 'restore' ? restorePreload : undefined,
      leftOut === undefined ? undefined : unwrittenPreload,
    ];
    return {
      ...env,
      PATH: [programFolder, env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin'].filter(Boolean).join(':'),
      // Plugins run as root inside CRIU, so none may slip in: a folder that is always there, where nobody can put one;
      // or that of the engine's own, where whoever could put one could replace the engine's programs, too.
      CRIU_LIBS_DIR: (socketPlan && pluginFolder) || '/proc/self/task',
      TORPOR_SOCKET_PLAN: socketPlan,
      TORPOR_LEFT_OUT: leftOut,
      TORPOR_LEFT_OUT_INSIDE: this.#options.room && '1',
      LD_PRELOAD: preloads.filter(Boolean).join(':') || undefined,
      TORPOR_TRACER_SOCKET: tracer === undefined ? undefined : String(tracer.socket),
    };
  }
}

/** The exchange of messages with one CRIU process, and the decision whether it may go on. */
class Talk {
  readonly #socket: SeqpacketSocket;
  readonly #isRestore: boolean;
  readonly #lastVeto: string | undefined;
  readonly #handlers: OperationHandlers<string>;
  readonly #hostPid: CriuRoom['hostPid'];
  readonly #kill: () => void;
  /** Why CRIU was told to stop; the operation rejects with it. */
  #failure: { error: unknown } | undefined;
  #inHandler = false;
  #pastVeto = false;
  #grace: NodeJS.Timeout | undefined;
  #root: ProcessIdentity | undefined;

  constructor(
    socket: SeqpacketSocket,
    operation: CriuOperation,
    handlers: OperationHandlers<string>,
    hostPid: CriuRoom['hostPid'],
    kill: () => void,
  ) {
    this.#socket = socket;
    this.#isRestore = operation === 'restore';
    this.#lastVeto = lastVeto[operation];
    this.#handlers = handlers;
    this.#hostPid = hostPid;
    this.#kill = kill;
  }

  /** @returns the response; undefined where CRIU ended without one. */
  async run(request: Buffer): Promise<CriuResponse | undefined> {
    const { signal } = this.#handlers;
    const onAbort = () => this.#awaitNotification();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      this.#send(request);
      for (;;) {
        const packet = await this.#socket.receive();
        if (packet === undefined) return undefined;
        const response = decode(criuResponse, packet);
        if (response.type !== requestType.notify) return response;
        clearTimeout(this.#grace);
        this.#inHandler = true;
        const notifySuccess = await this.#answer(response.notify?.script ?? '', response.notify?.pid);
        this.#inHandler = false;
        this.#send(encode(criuRequest, { type: requestType.notify, notifySuccess }));
        if (signal?.aborted) this.#awaitNotification();
      }
    } finally {
      clearTimeout(this.#grace);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** After an abort: a notification would let it be refused; CRIU gets a while to send one. */
  #awaitNotification(): void {
    if (this.#inHandler || this.#pastVeto || this.#failure !== undefined) return;
    this.#grace = setTimeout(() => {
      this.#failure = { error: this.#handlers.signal?.reason };
      this.#kill();
    }, abortGraceMs);
  }

  /**
   * To be called when CRIU has exited: rejects with the error that cancelled the operation, if one did, and then sees
   * to it that nothing of a half-restored tree is left.
   */
  async settle(succeeded: boolean): Promise<void> {
    const cancelled = this.#failure !== undefined;
    if (cancelled || !succeeded) await this.#endRoot();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #endRoot(): Promise<void> {
    if (this.#root !== undefined) await signalProcess(this.#root, 'SIGKILL');
  }

  async #answer(script: string, givenPid: number | undefined): Promise<boolean> {
    const pid = givenPid === undefined ? undefined : await this.#hostPid(givenPid);
    if (pid !== undefined && this.#isRestore) this.#root = await identify(pid);
    const { signal, onNotify } = this.#handlers;
    if (signal?.aborted && !this.#pastVeto) this.#failure ??= { error: signal.reason };
    if (this.#failure !== undefined) return false;
    try {
      await onNotify?.[script]?.(pid);
    } catch (error) {
      this.#failure = { error };
      // CRIU does not heed a refusal any more, and waits for the root for ever once that has been ended.
      if (this.#pastVeto && this.#isRestore) {
        await this.#endRoot();
        this.#kill();
      }
      return false;
    }
    if (script === this.#lastVeto) this.#pastVeto = true;
    return true;
  }

  /** Where CRIU has gone meanwhile, the receive that follows says so. */
  #send(packet: Buffer): void {
    try {
      this.#socket.send(packet);
    } catch (error) {
      if (!(error instanceof SocketError && (error.code === 'EPIPE' || error.code === 'ECONNRESET')))
        throw error;
    }
  }
}

/** CRIU's process. */
class CriuChild {
  readonly #child: ChildProcess;
  /** Resolves once the program runs. @throws TorporError where it cannot be started. */
  readonly started: Promise<void>;
  readonly exit: Promise<CriuExit>;
  #stderr = '';

  /** @param ownSession whether it was started in a session of its own. */
  constructor(child: ChildProcess, program: string, ownSession: boolean) {
    this.#child = child;
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-stderrLimit);
    });
    const failed = new Promise<never>((_resolve, reject) => {
      child.once('error', (error: NodeJS.ErrnoException) => reject(cannotStart(program, error)));
    });
    failed.catch(() => {});
    this.started = Promise.race([new Promise<void>((resolve) => child.once('spawn', resolve)), failed]);
    this.started.catch(() => {});
    const exited = new Promise<CriuExit>((resolve) => {
      child.once('exit', (status, signal) => {
        // Helpers that it had forked would stay for ever.
        const tidied = signal !== null && ownSession ? endSession(this.pid) : Promise.resolve();
        // The rest of standard error, but not for as long as a half-restored process may hold that pipe.
        const finish = () => {
          clearTimeout(limit);
          child.stderr?.destroy();
          tidied.catch(() => {}).then(() => resolve({ status, signal }));
        };
        const limit = setTimeout(finish, lastWordsMs);
        if (child.stderr === null || child.stderr.readableEnded) finish();
        else child.stderr.once('end', finish);
      });
    });
    this.exit = Promise.race([exited, failed]);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  stderr(): string {
    return this.#stderr;
  }

  /** Ends it at once: the tracer sees to it that CRIU's target survives that. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

function cannotStart(program: string, error: NodeJS.ErrnoException): TorporError {
  const why = error.code === 'ENOENT' ? 'it is not there' : error.message;
  return new TorporError(
    'failed',
    `${program} cannot be started: ${why}.`,
    'Install it with `npm start`, and check with `torpor doctor`.',
    { program, errno: error.code },
    { cause: error },
  );
}

async function openFolder(path: string, use: string) {
  try {
    return await open(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new TorporError(
      'failed',
      `The folder ${path} for CRIU’s ${use} files cannot be opened: ${code}.`,
      'Check that the folder is there.',
      { path, errno: code },
      { cause: error },
    );
  }
}

const capSysResource = 24n;

/** Whether this process has CAP_SYS_RESOURCE (proc(5), CapEff). */
function mayReadForeignLimits(): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${capabilities}`) >> capSysResource) & 1n) === 1n;
}

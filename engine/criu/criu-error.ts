/** A CRIU operation that failed, for people: the cause in plain words, with CRIU's own words in the details. */
import { open } from 'node:fs/promises';
import { getSystemErrorName } from 'node:util';
import { TorporError } from '../../api/errors.ts';
import { type Explanation, errorsIn, explain } from './log-errors.ts';

export type CriuOperation = 'version' | 'features' | 'check' | 'dump' | 'restore';

/** How CRIU's process ended. */
export interface CriuExit {
  status: number | null;
  signal: NodeJS.Signals | null;
}

export interface CriuFailure {
  operation: CriuOperation;
  exit: CriuExit;
  /** What CRIU wrote to standard error; only what came before it had opened its log. */
  stderr: string;
  /** The errno in CRIU's response; of the first cause or of a consequence, so for the details only. */
  errno: number | undefined;
  logPath: string | undefined;
}

const tasks: Readonly<Record<CriuOperation, string>> = {
  version: 'tell its version',
  features: 'tell what this kernel offers',
  check: 'check this kernel',
  dump: 'make the checkpoint',
  restore: 'restore the checkpoint',
};

/** The end of a log is enough: CRIU stops soon after what went wrong. */
const logTailBytes = 256 * 1024;
const logTailLines = 40;

/** What CRIU says of a process that does not stop, as in the middle of a vfork. */
const timeout = /Timeout reached|Unable to freeze cgroup/;

/**
 * What CRIU says of a socket whose other end it does not dump, as that of a viewer who has just come back; of a
 * connection that nobody has accepted yet; of what has been said, by the kernel or somebody else, and nobody has read yet.
 */
const momentary =
  /The socket has data to read|Control messages in queue|Can't dump corked dgram socket|in-flight socket|External socket is used|External socket found|In-flight connection|Unix socket \d+ with(?:out| +unreachable) peer|Can't dump half of stream/;

/** What CRIU and its library for TCP say where a connection cannot be made again. */
const ofConnections =
  /inet socket|tcp|repair (?:mode|queue|options)|queue seq|Can't restore \w+ queue data|libnet|fin packet|window parameters|Can't set timestamp/i;

export class CriuError extends TorporError {
  /** Whether a restore failed at a TCP connection. */
  get isAboutConnections(): boolean {
    return (this.details.errors as string[]).some((line) => ofConnections.test(line));
  }

  /** Whether somebody ended CRIU: that says nothing of what it was at. */
  get wasKilled(): boolean {
    return (this.details.exit as CriuExit).signal !== null;
  }

  /** Whether a dump failed for what the application happened to be at in that very moment. */
  get isMomentary(): boolean {
    return this.isTimeout || this.#says(momentary);
  }

  /** Whether a dump failed because not all of it came to a standstill in time. */
  get isTimeout(): boolean {
    return this.#says(timeout);
  }

  #says(what: RegExp): boolean {
    return (this.details.errors as string[]).some((line) => what.test(line));
  }

  /**
   * Reads CRIU's log and says what went wrong.
   * @returns details: operation, errors (CRIU's own messages), logTail, logPath, errno, exit.
   */
  static async of(failure: CriuFailure): Promise<CriuError> {
    const log = failure.logPath === undefined ? '' : await tailOf(failure.logPath);
    const text = log === '' ? failure.stderr : log;
    const errors = errorsIn(text);
    const { signal } = failure.exit;
    const { sentence, hint } =
      // Messages before a kill from outside are not its cause.
      signal === null
        ? (explain(errors) ?? unexplained(failure))
        : {
            sentence: `CRIU was ended by ${signal} before it could ${tasks[failure.operation]}.`,
            hint: 'Try again.',
          };
    return new CriuError('failed', sentence, hint, {
      operation: failure.operation,
      errors,
      logTail: text.trimEnd().split('\n').slice(-logTailLines).join('\n'),
      ...(failure.logPath === undefined ? {} : { logPath: failure.logPath }),
      ...(failure.errno === undefined ? {} : { errno: errnoName(failure.errno) }),
      exit: failure.exit,
    });
  }
}

/** Without an error in a log: it failed before it had one, or did so silently. */
function unexplained({ operation, exit, stderr }: CriuFailure): Explanation {
  const words = lastWords(stderr) || `it did not say why (exit status ${exit.status})`;
  return {
    sentence: `CRIU could not ${tasks[operation]}: ${words.replace(/\.$/, '')}.`,
    hint: 'Run `torpor doctor`, which checks what CRIU needs.',
  };
}

/** The last line; of torpor-capsule, which CRIU is started by for a restore, that is JSON with an `error`. */
function lastWords(stderr: string): string {
  const line = stderr.trim().split('\n').at(-1) ?? '';
  try {
    const { error } = JSON.parse(line) as { error?: unknown };
    return typeof error === 'string' ? error : line;
  } catch {
    return line;
  }
}

function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

async function tailOf(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.min(size, logTailBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    // CRIU may have failed before it could open its log.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** Running helper programs: arguments as a list, never through a shell. */
import { type ChildProcess, spawn } from 'node:child_process';

export interface CommandResult {
  /** Exit status, or -1 where a signal or the time limit ended it. */
  status: number;
  stdout: string;
  stderr: string;
}

/** More than that of a program's output is not kept, in characters of each stream. */
export const longestOutput = 16 * 1024 * 1024;
/** What a program has left behind may hold its pipes for ever; its own last words come at once. */
const lastWordsMs = 1000;

/** Runs a program to its end, or to the time limit. @throws Error with code ENOENT where it is not installed. */
export function runCommand(
  program: string,
  args: readonly string[],
  options: {
    env?: NodeJS.ProcessEnv;
    timeoutMs?: number;
    killSignal?: NodeJS.Signals;
    input?: Promise<string>;
    /** It gets a session of its own, and what it has started is ended with it. */
    ownSession?: boolean;
  } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const { killSignal = 'SIGTERM', ownSession = false, timeoutMs = 60_000 } = options;
    const child = spawn(program, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: options.env ?? process.env,
      detached: ownSession,
    });
    const output = { stdout: '', stderr: '' };
    let lastWords: NodeJS.Timeout | undefined;
    const finish = (status: number | null) => {
      clearTimeout(limit);
      clearTimeout(lastWords);
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve({ status: status ?? -1, ...output });
    };
    const kill = () => {
      try {
        if (ownSession && child.pid !== undefined) process.kill(-child.pid, killSignal);
        else child.kill(killSignal);
      } catch {
        // It has ended.
      }
    };
    const limit = setTimeout(() => {
      kill();
      lastWords = setTimeout(() => finish(null), lastWordsMs);
    }, timeoutMs);
    // What ends before it has read everything has its reasons, which its status tells.
    child.stdin?.on('error', () => {});
    options.input?.then(
      (text) => child.stdin?.end(text),
      (error: unknown) => {
        kill();
        reject(error);
      },
    );
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8');
      child[name]?.on('data', (text: string) => {
        if (output[name].length < longestOutput) output[name] += text;
      });
    }
    child.once('error', (error) => {
      clearTimeout(limit);
      reject(error);
    });
    child.once('exit', (status) => {
      lastWords ??= setTimeout(() => finish(status), lastWordsMs);
    });
    child.once('close', finish);
  });
}

/** Of what a program has said as it ended: the error that it had, where it says so, and else its last line. Pure. */
export function lastSentence(said: string): string {
  const lines = said.trim().split('\n');
  return (
    lines.findLast((line) => /^(?:Uncaught )?\w*(?:Error|Exception)\b.*:/.test(line)) ?? lines.at(-1) ?? ''
  );
}

/** Who a program runs as. */
interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** What makes `setpriv` become a user. */
export function identityOptions({ uid, gid, groups }: Identity): string[] {
  const supplementary = groups.length === 0 ? ['--clear-groups'] : ['--groups', groups.join(',')];
  return ['--reuid', `${uid}`, '--regid', `${gid}`, ...supplementary];
}

/** So many characters are kept of what a program says before its end. */
const longestWords = 2000;

/** Reads what a program says on standard error. @returns what gives the end of it, without white space around. */
export function lastWordsOf(child: ChildProcess): () => string {
  let words = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    words = (words + text).slice(-longestWords);
  });
  return () => words.trim();
}

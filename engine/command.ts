/** Running helper programs: arguments as a list, never through a shell. */
import { spawn } from 'node:child_process';

export interface CommandResult {
  /** Exit status, or -1 where a signal ended it. */
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. @throws Error with code ENOENT where it is not installed. */
export function runCommand(
  program: string,
  args: readonly string[],
  options: {
    env?: NodeJS.ProcessEnv;
    timeoutMs?: number;
    killSignal?: NodeJS.Signals;
    input?: Promise<string>;
  } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: options.env ?? process.env,
      timeout: options.timeoutMs ?? 60_000,
      killSignal: options.killSignal ?? 'SIGTERM',
    });
    const output = { stdout: '', stderr: '' };
    // What ends before it has read everything has its reasons, which its status tells.
    child.stdin?.on('error', () => {});
    options.input?.then(
      (text) => child.stdin?.end(text),
      (error: unknown) => {
        child.kill(options.killSignal);
        reject(error);
      },
    );
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8');
      child[name]?.on('data', (text: string) => {
        output[name] += text;
      });
    }
    child.on('error', reject);
    child.on('close', (status) => resolve({ status: status ?? -1, ...output }));
  });
}

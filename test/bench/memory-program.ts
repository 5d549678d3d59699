/** The benchmark's own application (memory-program.c): how it is built, and spoken to from outside. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runOrThrow } from './medium.ts';

export const contentKinds = ['random', 'text', 'zero', 'mixed'] as const;
export type Contents = (typeof contentKinds)[number];
export type Mappings = 'private' | 'shared' | 'small';

const lookAgainMs = 2;
const answerLimitMs = 300_000;

/** Builds it. @returns the program */
export async function buildMemoryProgram(folder: string): Promise<string> {
  const source = new URL('memory-program.c', import.meta.url).pathname;
  const program = join(folder, 'memory-program');
  const warnings = ['-Wall', '-Wextra', '-Werror', '-Wshadow'];
  await runOrThrow('gcc', ['-std=gnu11', '-D_GNU_SOURCE', '-O2', ...warnings, '-o', program, source]);
  return program;
}

function askOnce(socketPath: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let answer = '';
    socket.setEncoding('utf8');
    socket.once('connect', () => socket.write(`${request}\n`));
    socket.on('data', (text: string) => {
      answer += text;
    });
    socket.once('error', reject);
    socket.once('close', () =>
      answer.endsWith('\n') ? resolve(answer.trim()) : reject(new Error('it ended without an answer')),
    );
  });
}

/** Asks it, again and again until it is there to answer. @throws Error when that is given up, or is too late */
export async function ask(socketPath: string, request: string, signal?: AbortSignal): Promise<string> {
  const end = performance.now() + answerLimitMs;
  for (;;) {
    try {
      return await askOnce(socketPath, request);
    } catch (error) {
      signal?.throwIfAborted();
      if (performance.now() > end)
        throw new Error(`the memory program did not answer ${request}: ${(error as Error).message}`);
      await sleep(lookAgainMs);
    }
  }
}

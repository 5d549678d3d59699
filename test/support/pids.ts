/** Numbers of processes: one that is to be taken, and one of the kernel's. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { expect } from 'vitest';

/** Gives a number to a process of ours, so that nobody else can have it; one that is not to be had is taken already. */
export async function takePid(pid: number): Promise<AsyncDisposable> {
  const script = `for i in $(seq 200); do
    echo $((${pid} - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 & [ $! = ${pid} ] && break; kill $!; sleep 0.02
  done; echo taken; read end; kill $! 2>/dev/null`;
  const shell = spawn('bash', ['-c', script]);
  const [said] = (await once(shell.stdout, 'data')) as [Buffer];
  expect(said.toString()).toBe('taken\n');
  return {
    async [Symbol.asyncDispose]() {
      shell.stdin.end();
      await once(shell, 'close');
    },
  };
}

/** A thread of the kernel's, where any is to be seen: in a container none is, and its number may be a process's. */
export const kernelThread =
  existsSync('/proc/2/comm') && readFileSync('/proc/2/comm', 'utf8') === 'kthreadd\n' ? 2 : undefined;

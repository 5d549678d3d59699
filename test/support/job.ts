/** Jobs as users have them: commands typed into an interactive shell in a terminal of a test's own. */
import { vi } from 'vitest';
import { childrenOf, type TerminalOptions, TestTerminal } from './terminal.ts';

export interface TypedJob extends AsyncDisposable {
  terminal: TestTerminal;
  pid: number;
}

/** Types a command into a shell. @returns the terminal, and the pid of what the shell has started. */
export async function typeInShell(command: string, options: TerminalOptions = {}): Promise<TypedJob> {
  const terminal = await TestTerminal.start(['bash', '--norc', '-i'], options);
  await terminal.until(/[$#] $/);
  terminal.type(`${command}\n`);
  const started = async () => {
    const [child] = await childrenOf(terminal.pid);
    if (child === undefined) throw new Error(`it has not started: ${terminal.shown}`);
    return child;
  };
  const pid = await vi.waitFor(started, { timeout: 20_000, interval: 20 });
  return { terminal, pid, [Symbol.asyncDispose]: () => terminal.close() };
}

/**
 * Whether a plugin's program can be run by its user. Torpor in a folder of root's, or in an AppImage that root has
 * mounted, works for root alone, and what a shell or Node then says of it helps nobody.
 */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { User } from '../capsule/users.ts';
import { identityOptions, runCommand } from '../command.ts';

const limitMs = 5000;

/** Its arguments are tests, such as `x`, each with a path behind it: prints the first path that does not pass. */
const printer = 'while [ $# -gt 1 ]; do test "-$1" "$2" || { printf %s "$2"; exit; }; shift 2; done';

/**
 * What keeps a user from running a program of Torpor's own, as part of a sentence; undefined where nothing does.
 * @param exec the program and its arguments, of which those that are paths are read by it.
 */
export async function hindrance(exec: readonly string[], user: User): Promise<string | undefined> {
  const [program = '', ...rest] = exec;
  const read = rest.filter((word) => word.startsWith('/'));
  const tests = [
    ...[...new Set([program, ...read].flatMap(foldersAbove)), program].flatMap((path) => ['x', path]),
    ...read.flatMap((path) => ['r', path]),
  ];
  const { stdout: path } = await runCommand(
    'setpriv',
    [...identityOptions(user), '--', 'sh', '-c', printer, 'sh', ...tests],
    { env: { PATH: '/usr/bin:/bin' }, timeoutMs: limitMs, killSignal: 'SIGKILL', ownSession: true },
  );
  if (path === '') return undefined;
  if (!existsSync(path)) return `${path} is missing; build or install Torpor again`;
  const what = path === program ? 'may not run' : read.includes(path) ? 'may not read' : 'may not enter';
  return `${user.name} ${what} ${path}; have Torpor, and the Node that runs it, where all users can, such as below /opt, or install Torpor's package`;
}

/** From the root on. */
function foldersAbove(path: string): string[] {
  const folder = dirname(path);
  return folder === path ? [] : [...foldersAbove(folder), folder];
}

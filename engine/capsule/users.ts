/** Who a capsule's application runs as, from the machine's own user database (local files, LDAP, systemd-homed). */
import { TorporError } from '../../api/errors.ts';
import type { CapsuleSpec } from '../../proto/manifest.ts';
import { runCommand } from '../command.ts';

export type User = CapsuleSpec['user'];

/** The same where the number may be nobody's. */
export async function findUserIfAny(uid: number): Promise<User | undefined> {
  return await findUser(uid).catch((error: unknown) => {
    if (error instanceof TorporError && error.code === 'usage') return undefined;
    throw error;
  });
}

/** Names of groups, of those that have one. */
export async function groupNames(groups: readonly number[]): Promise<Map<number, string>> {
  if (groups.length === 0) return new Map();
  const { stdout } = await runCommand('getent', ['group', '--', ...groups.map(String)]);
  const lines = stdout.split('\n').filter(Boolean);
  return new Map(lines.map((line) => line.split(':')).map(([name = '', , gid]) => [Number(gid), name]));
}

/**
 * Looks a user up by name or numeric id.
 * @throws TorporError `usage` where there is no such user.
 */
export async function findUser(nameOrUid: string | number): Promise<User> {
  const entry = await runCommand('getent', ['passwd', '--', String(nameOrUid)]);
  const [name, , uid, gid, , home, shell] = entry.stdout.split('\n')[0]?.split(':') ?? [];
  if (entry.status !== 0 || !name || uid === undefined || gid === undefined) {
    throw new TorporError(
      'usage',
      `There is no user ${nameOrUid} on this machine.`,
      'See `getent passwd` for those there are.',
    );
  }
  const ids = await runCommand('id', ['-G', '--', name]);
  const groups = ids.stdout.trim().split(/\s+/).filter(Boolean).map(Number);
  return { uid: Number(uid), gid: Number(gid), groups, name, home: home || '/', shell: shell || '/bin/sh' };
}

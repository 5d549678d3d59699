/** Who a capsule's application runs as, from the machine's own user database (local files, LDAP, systemd-homed). */
import { TorporError } from '../../api/errors.ts';
import type { CapsuleSpec } from '../../proto/manifest.ts';
import { runCommand } from '../command.ts';

export type User = CapsuleSpec['user'];

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

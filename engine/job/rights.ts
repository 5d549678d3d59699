/**
 * What a job may be given back: a snapshot has the credentials that its processes had, and they get these again. Where
 * its user has lost some of them since, or where they were never the user's own, only root can have it resumed.
 */
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import type { User } from '../capsule/users.ts';
import type { Credentials, ProcessImage } from '../criu/images.ts';

/** What has become of the user since, by the machine's own database. */
export interface UserNow {
  /** Undefined where the number is nobody's. */
  user: Pick<User, 'name' | 'groups'> | undefined;
  groupNames: ReadonlyMap<number, string>;
}

/** Groups that the user had and has no more. Pure. */
export const lostGroups = (then: Pick<User, 'groups'>, now: Pick<User, 'groups'> | undefined): number[] =>
  now === undefined ? [] : then.groups.filter((group) => !now.groups.includes(group));

/**
 * Pure.
 * @param then the user at the suspend.
 * @returns what root is told and resumes all the same.
 * @throws TorporError `not-permitted` for anybody else.
 */
export function checkRights(
  name: string,
  then: User,
  now: UserNow,
  processes: readonly ProcessImage[],
  isRoot: boolean,
): Finding[] {
  const credentials = processes.flatMap((process) =>
    process.kind === 'alive' ? process.threads.map((thread) => thread.credentials) : [],
  );
  const foreign = isRoot ? undefined : credentials.flatMap(uidsOf).find((uid) => uid !== then.uid);
  const lost = lostGroups(then, now.user).filter((group) =>
    credentials.some((each) => groupsOf(each).includes(group)),
  );
  const groups = lost.map((group) => now.groupNames.get(group) ?? String(group)).join(', ');
  // One who had no entry then has lost none.
  const hadEntry = then.name !== String(then.uid);
  const changed = [
    ...(foreign === undefined ? [] : [`${name} has a process that acts as another user (${foreign}).`]),
    ...(now.user !== undefined && hadEntry && now.user.name !== then.name
      ? [`${name} belongs to ${then.name}, whose number ${then.uid} is that of ${now.user.name} now.`]
      : []),
    ...(lost.length === 0
      ? []
      : [`${name} acts with rights of a group in which ${then.name} no longer is: ${groups}.`]),
  ];
  const [first] = changed;
  if (first !== undefined && !isRoot) throw new TorporError('not-permitted', first, 'Ask root to resume it.');
  const gone =
    now.user === undefined && hadEntry
      ? [`The user of ${name}, ${then.name}, no longer exists on this machine.`]
      : [];
  return [...changed, ...gone].map((what) => ({
    tie: 'user',
    verdict: 'degraded',
    by: 'criu',
    what,
    hint: 'It goes on with the rights that it had.',
  }));
}

const uidsOf = ({ uid, euid, suid, fsuid }: Credentials) => [uid, euid, suid, fsuid];
const groupsOf = ({ gid, egid, sgid, fsgid, groups }: Credentials) => [gid, egid, sgid, fsgid, ...groups];

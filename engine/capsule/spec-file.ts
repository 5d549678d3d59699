/** The description of a capsule that `torpor-capsule start` reads: records `key=value`, each ended by a zero byte. */
import { basename } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Installation } from '../installation.ts';
import type { CapsuleRecord } from '../workload/record.ts';

/**
 * @throws TorporError `usage` where a word of the command or a variable holds a zero byte, which no program can get.
 */
export function encodeSpec(
  record: CapsuleRecord,
  runFolder: string,
  cgroup: string,
  { capsuleInit, soundServer, preloads }: Pick<Installation, 'capsuleInit' | 'soundServer' | 'preloads'>,
): Buffer {
  const { capsule } = record;
  const libraries = Object.values(preloads).filter((path) =>
    capsule.profiles?.preloads.includes(basename(path)),
  );
  const records: [string, string][] = [
    ['root', capsule.root],
    ['runDir', runFolder],
    ['initPath', capsuleInit],
    ['soundPath', soundServer],
    ['cgroup', cgroup],
    ['hostname', capsule.hostname],
    ['geometry', capsule.geometry],
    ['display', String(capsule.display ?? 0)],
    ['uid', String(capsule.user.uid)],
    ['gid', String(capsule.user.gid)],
    ['groups', capsule.user.groups.join(',')],
    ['home', capsule.user.home],
    ['cwd', capsule.cwd],
    ...capsule.hostMounts.map(({ path }): [string, string] => ['bind', path]),
    ...libraries.map((path): [string, string] => ['preload', path]),
    // For torpor-init itself: it has these records as its environment.
    ...(capsule.cpuBaseline === true
      ? [['GLIBC_TUNABLES', capsule.env.GLIBC_TUNABLES ?? ''] as [string, string]]
      : []),
    ...Object.entries(capsule.env).map(([name, value]): [string, string] => ['env', `${name}=${value}`]),
    ...capsule.command.map((word): [string, string] => ['arg', word]),
  ];
  const bad = records.find(([, value]) => value.includes('\0'));
  if (bad !== undefined) {
    throw new TorporError(
      'usage',
      'A word of the command or of its environment holds a zero byte.',
      'Leave it out.',
    );
  }
  return Buffer.from(records.map(([key, value]) => `${key}=${value}\0`).join(''));
}

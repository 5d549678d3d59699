/**
 * The folders that profiles are read from: Torpor's own, the machine's, and the user's. The user's is read with that
 * user's rights alone, since what lies there is theirs to choose: links, devices and all.
 */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { User } from '../capsule/users.ts';
import { runCommand } from '../command.ts';
import { largestFile, type Parsed, parseProfile } from './parse.ts';
import { type Origin, type Profile, type ProfileProblem, problemSentence } from './profile.ts';

const mostFiles = 100;
const userReadLimitMs = 5000;
export const userFolder = '.config/torpor/profiles';

export interface ProfileFolders {
  torpor: string;
  machine: string;
}

export interface ProfileSet {
  /** One of each name: where there are several the user's, then the machine's. By name. */
  profiles: Profile[];
  problems: ProfileProblem[];
}

interface FileText {
  file: string;
  text: string;
}

/** All profiles for a user; without one Torpor's and the machine's. What is broken is left out and told. */
export async function readProfiles(
  folders: ProfileFolders,
  user: User | undefined,
  parse: typeof parseProfile = parseProfile,
): Promise<ProfileSet> {
  const read: [Origin, Promise<FileText[]>][] = [
    ['torpor', readFolder(folders.torpor)],
    ['machine', readFolder(folders.machine)],
    ['user', user === undefined ? Promise.resolve([]) : readAsUser(user)],
  ];
  const profiles = new Map<string, Profile>();
  const problems: ProfileProblem[] = [];
  for (const [origin, texts] of read) {
    for (const { file, text } of await texts) apply(parse(text, file, origin), profiles, problems);
  }
  return { profiles: [...profiles.values()].sort((a, b) => a.name.localeCompare(b.name)), problems };
}

function apply(parsed: Parsed, profiles: Map<string, Profile>, problems: ProfileProblem[]): void {
  switch (parsed.kind) {
    case 'profile':
      profiles.set(parsed.profile.name, parsed.profile);
      break;
    case 'disabled':
      profiles.delete(parsed.name);
      break;
    case 'broken':
      // The one it was to replace, if any, is still better than none.
      problems.push(...parsed.problems);
  }
}

/** What is parsed again and again is parsed once; that takes longer than all the rest. */
export function rememberingParser(most = 4 * mostFiles): typeof parseProfile {
  const known = new Map<string, Parsed>();
  return (text, file, origin) => {
    const key = `${origin} ${file}\n${text}`;
    const parsed = known.get(key) ?? parseProfile(text, file, origin);
    if (known.size >= most) known.clear();
    known.set(key, parsed);
    return parsed;
  };
}

/** Problems as sentences, each once. */
export const sentencesOf = (problems: readonly ProfileProblem[]) => [
  ...new Set(problems.map(problemSentence)),
];

const isProfile = (name: string) => /^[^.].*\.ya?ml$/s.test(name);

async function readFolder(folder: string): Promise<FileText[]> {
  const names = (await readdir(folder).catch(() => [])).filter(isProfile).sort().slice(0, mostFiles);
  const texts = await Promise.all(
    names.map(async (name) => {
      const file = join(folder, name);
      return { file, text: await readStart(file) };
    }),
  );
  return texts.filter((each): each is FileText => each.text !== undefined);
}

async function readStart(path: string): Promise<string | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  try {
    if (!(await file?.stat())?.isFile()) return undefined;
    const { buffer, bytesRead } = (await file?.read(Buffer.alloc(largestFile + 1))) ?? {};
    return buffer?.toString('utf8', 0, bytesRead);
  } finally {
    await file?.close();
  }
}

/** Prints name and contents of every file, in base64, which no contents can confuse. */
const printer = `cd -- "$1" 2>/dev/null || exit 0
count=0
for file in *.yaml *.yml; do
  [ -f "$file" ] && [ "$count" -lt ${mostFiles} ] || continue
  count=$((count + 1))
  printf '%s' "$file" | base64 -w0
  printf ' '
  head -c ${largestFile + 1} -- "$file" | base64 -w0
  printf '\\n'
done`;

async function readAsUser({ uid, gid, groups, home }: User): Promise<FileText[]> {
  const folder = join(home, userFolder);
  const identity = ['--reuid', `${uid}`, '--regid', `${gid}`];
  const supplementary = groups.length === 0 ? ['--clear-groups'] : ['--groups', groups.join(',')];
  const command = ['sh', '-c', printer, 'sh', folder];
  const { stdout } = await runCommand('setpriv', [...identity, ...supplementary, '--', ...command], {
    env: { PATH: '/usr/bin:/bin' },
    timeoutMs: userReadLimitMs,
    killSignal: 'SIGKILL',
  });
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [name = '', text = ''] = line
        .split(' ')
        .map((each) => Buffer.from(each, 'base64').toString('utf8'));
      return { file: join(folder, name), text };
    })
    .filter(({ file }) => isProfile(file.slice(folder.length + 1)));
}

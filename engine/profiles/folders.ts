/**
 * The folders that profiles are read from: Torpor's own, the machine's, and the user's. The user's is read with that
 * user's rights alone, since what lies there is theirs to choose: links, devices and all.
 */
import { join } from 'node:path';
import type { User } from '../capsule/users.ts';
import { type FileText, readSettings, readSettingsAs } from '../files/settings-folder.ts';
import { largestFile, type Parsed, parseProfile } from './parse.ts';
import { type Origin, type Profile, type ProfileProblem, problemSentence } from './profile.ts';

const mostFiles = 100;
const files = { endings: ['yaml', 'yml'], mostFiles, largestFile };
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

/** All profiles for a user; without one Torpor's and the machine's. What is broken is left out and told. */
export async function readProfiles(
  folders: ProfileFolders,
  user: User | undefined,
  parse: typeof parseProfile = parseProfile,
): Promise<ProfileSet> {
  const read: [Origin, Promise<FileText[]>][] = [
    ['torpor', readSettings(folders.torpor, files)],
    ['machine', readSettings(folders.machine, files)],
    [
      'user',
      user === undefined ? Promise.resolve([]) : readSettingsAs(user, join(user.home, userFolder), files),
    ],
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

/** What the profiles that match an application make of its start: environment, arguments, libraries, findings. Pure. */
import type { Finding } from '../../api/types.ts';
import type { Match } from './match.ts';
import type { Preload, Text } from './profile.ts';

export interface Consent {
  id: string;
  /** The profile that asks for it. */
  profile: string;
  title: string;
  /** What it is given for: a program, or a desktop entry. */
  program: string;
  what: Text;
}

export interface Adjustments {
  /** Names of the profiles, in the order in which they were applied. */
  profiles: string[];
  command: string[];
  environment: Record<string, string>;
  preloads: Preload[];
  consents: Consent[];
  notes: { profile: string; title: string; text: Text }[];
  findings: Finding[];
  lockFiles: string[];
  /** In seconds, the longest that one of them asks for. */
  waitNetwork: number | undefined;
}

const rank = { torpor: 0, machine: 1, user: 2 } as const;

/** In a user's own profile stands what shall hold; so it comes last. */
export function adjust(
  matches: readonly Match[],
  command: readonly string[],
  application: string | undefined,
): Adjustments {
  const ordered = [...matches].sort((a, b) => rank[a.profile.origin] - rank[b.profile.origin]);
  const adjusted: Adjustments = {
    profiles: ordered.map(({ profile }) => profile.name),
    command: [...command],
    environment: {},
    preloads: [],
    consents: [],
    notes: [],
    findings: [],
    lockFiles: [],
    waitNetwork: undefined,
  };
  const options = new Map<number, string[]>();
  for (const { profile, program } of ordered) {
    const { name, title, consent, note } = profile;
    Object.assign(adjusted.environment, profile.environment);
    if (program?.word !== undefined)
      options.set(program.word, replaceOptions(options.get(program.word) ?? [], profile.arguments));
    if (profile.preload !== undefined && !adjusted.preloads.includes(profile.preload))
      adjusted.preloads.push(profile.preload);
    if (consent !== undefined && !consent.unless.some((word) => hasOption(command, word))) {
      const place = program?.path ?? application ?? command[0] ?? '';
      adjusted.consents.push({ id: consent.id, profile: name, title, program: place, what: consent.what });
    }
    if (note !== undefined) adjusted.notes.push({ profile: name, title, text: note });
    adjusted.lockFiles.push(...profile['lock-files']);
    const wait = profile['wait-network'];
    if (wait !== undefined) adjusted.waitNetwork = Math.max(wait, adjusted.waitNetwork ?? 0);
    for (const finding of profile.findings) {
      // What was read out of a start script may not be what runs, so it refuses nothing.
      const verdict = finding.verdict === 'blocking' && program?.guessed ? 'degraded' : finding.verdict;
      adjusted.findings.push({ ...finding, verdict, by: `profile ${name}` });
    }
  }
  // From the last word on, so that those before it keep their places.
  for (const [word, added] of [...options].sort(([a], [b]) => b - a))
    adjusted.command = withArguments(adjusted.command, word, added, command);
  return adjusted;
}

/** Options of several profiles for one program: the later one's stand. */
const replaceOptions = (before: readonly string[], added: readonly string[]): string[] => [
  ...before.filter((each) => !hasOption(added, each) && !hasOption(added, opposite(each))),
  ...added,
];

/** Adds options behind the program's word, but for those whose like its user has given. */
function withArguments(
  command: readonly string[],
  word: number,
  added: readonly string[],
  given: readonly string[],
): string[] {
  const own = command.slice(word + 1);
  const theirs = given.slice(word + 1);
  const missing = added.filter((each) => !hasOption(theirs, each) && !hasOption(theirs, opposite(each)));
  return [...command.slice(0, word + 1), ...missing, ...own];
}

const nameOf = (option: string) => option.split('=')[0] ?? option;

/** Whether an option is there, with whatever value. */
function hasOption(words: readonly string[], option: string): boolean {
  return words.some((word) => nameOf(word) === nameOf(option));
}

function opposite(option: string): string {
  const name = nameOf(option);
  if (name.startsWith('--no-')) return `--${name.slice(5)}`;
  return name.startsWith('--') ? `--no-${name.slice(2)}` : name;
}

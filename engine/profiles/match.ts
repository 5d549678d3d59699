/** Whether a profile is for an application, and by what: every answer says why, so that a user can follow it. */
import { posix } from 'node:path';
import type { Condition, Profile } from './profile.ts';
import type { Program } from './programs.ts';

/** What is known of an application that is to be started. */
export interface Candidate {
  command: readonly string[];
  /** Id of the desktop entry. */
  application: string | undefined;
  isRoot: boolean;
  programs: readonly Program[];
  /** Names in a folder. */
  list(folder: string): Promise<readonly string[]>;
  /** Sonames of what a program is linked to. */
  libraries(program: string): Promise<ReadonlySet<string>>;
  /** Modules that a program in Python imports. */
  modules(program: string): Promise<ReadonlySet<string>>;
}

export interface Match {
  profile: Profile;
  /** Half a sentence: `libxul.so lies beside /usr/lib/firefox-esr/firefox-esr`. */
  why: string;
  /** The program by which it was found, where it was one. */
  program: Program | undefined;
}

/** The profile's first condition that holds; undefined where none does. */
export async function matchProfile(profile: Profile, candidate: Candidate): Promise<Match | undefined> {
  for (const condition of profile.match) {
    const match = await matchCondition(condition, candidate);
    if (match !== undefined) return { profile, ...match };
  }
  return undefined;
}

async function matchCondition(
  condition: Condition,
  candidate: Candidate,
): Promise<Pick<Match, 'why' | 'program'> | undefined> {
  const reasons: string[] = [];
  if (condition.user !== undefined) {
    if (condition.user !== (candidate.isRoot ? 'root' : 'ordinary')) return undefined;
    reasons.push(candidate.isRoot ? 'it runs as root' : 'it does not run as root');
  }
  if (condition.desktop !== undefined) {
    const id = candidate.application?.replace(/\.desktop$/, '');
    const pattern = condition.desktop.find(
      (each) => id !== undefined && fits(each.replace(/\.desktop$/, ''), id),
    );
    if (pattern === undefined) return undefined;
    reasons.push(`its desktop entry is ${candidate.application}`);
  }
  if (condition.argument !== undefined) {
    const patterns = condition.argument;
    const word = candidate.command.find((each) => patterns.some((pattern) => fits(pattern, each)));
    if (word === undefined) return undefined;
    reasons.push(`its command line has ${word}`);
  }
  if (!hasProgramKeys(condition)) return { why: reasons.join(', and '), program: undefined };
  for (const program of candidate.programs) {
    const why = await matchProgram(condition, program, candidate);
    if (why !== undefined) return { why: [...why, ...reasons].join(', and '), program };
  }
  return undefined;
}

const hasProgramKeys = ({ executable, beside, library, module, format }: Condition) =>
  [executable, beside, library, module, format].some((key) => key !== undefined);

async function matchProgram(
  { executable, beside, library, module, format }: Condition,
  program: Program,
  candidate: Candidate,
): Promise<string[] | undefined> {
  const reasons: string[] = [];
  if (executable !== undefined) {
    const paths = [program.path, ...program.names];
    const pattern = executable.find((each) =>
      paths.some((path) => fits(each, each.includes('/') ? path : posix.basename(path))),
    );
    if (pattern === undefined) return undefined;
    reasons.push(`it starts ${program.path}`);
  }
  if (format !== undefined) {
    if (program.format !== format) return undefined;
    reasons.push(`${program.path} is an AppImage`);
  }
  if (beside !== undefined) {
    const name = await findBeside(beside, program, candidate);
    if (name === undefined) return undefined;
    reasons.push(`${name} lies beside ${program.path}`);
  }
  if (library !== undefined) {
    if (program.format !== 'elf') return undefined;
    const sonames = await candidate.libraries(program.path);
    const soname = [...sonames].find((each) => library.some((pattern) => fits(pattern, each)));
    if (soname === undefined) return undefined;
    reasons.push(`${program.path} is linked to ${soname}`);
  }
  if (module !== undefined) {
    const modules = await candidate.modules(program.path);
    const name = [...modules].find((each) => module.some((pattern) => fits(pattern, each)));
    if (name === undefined) return undefined;
    reasons.push(`${program.path} imports ${name}`);
  }
  return reasons;
}

/** Folders that hold programs of all kinds say nothing of one of them. */
const shared = /^(?:\/usr)?(?:\/local)?\/(?:s?bin|lib|lib64|libexec|games)$/;

async function findBeside(
  names: readonly string[],
  program: Program,
  candidate: Candidate,
): Promise<string | undefined> {
  const folder = posix.dirname(program.path);
  if (shared.test(folder)) return undefined;
  for (const name of names) {
    const entries = await candidate.list(posix.join(folder, posix.dirname(name)));
    const found = entries.find((entry) => fits(posix.basename(name), entry));
    if (found !== undefined) return posix.join(posix.dirname(name), found);
  }
  return undefined;
}

/** As long as a path can be. What is longer would take long to compare, and is nothing a profile speaks of. */
const longestText = 4096;

/**
 * Whether a text fits a pattern: `*` stands for anything but a slash, `**` for anything, `?` for one letter. Without
 * regular expressions, since patterns of a user's could make those take for ever.
 */
export function fits(pattern: string, text: string): boolean {
  if (text.length > longestText) return false;
  let [at, reached] = [0, 0];
  // Where to go on from when what follows the last `*` or `**` does not fit: one letter later.
  let star: { at: number; reached: number } | undefined;
  let doubleStar: { at: number; reached: number } | undefined;
  for (;;) {
    if (pattern.startsWith('**', at)) {
      at += 2;
      doubleStar = { at, reached };
      star = undefined;
    } else if (pattern[at] === '*') {
      at++;
      star = { at, reached };
    } else if (reached < text.length && fitsLetter(pattern[at], text[reached])) {
      at++;
      reached++;
    } else if (at === pattern.length && reached === text.length) {
      return true;
    } else if (star !== undefined && star.reached < text.length && text[star.reached] !== '/') {
      star.reached++;
      ({ at, reached } = star);
    } else if (doubleStar !== undefined && doubleStar.reached < text.length) {
      doubleStar.reached++;
      ({ at, reached } = doubleStar);
      star = undefined;
    } else return false;
  }
}

const fitsLetter = (wanted: string | undefined, letter: string | undefined) =>
  wanted === letter || (wanted === '?' && letter !== '/');

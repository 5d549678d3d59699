/**
 * Application profiles: data files that say what an application needs so that it can be suspended and resumed. They are
 * read anew at every start, so that what a user changes holds at once.
 */
import { TorporError } from '../../api/errors.ts';
import type { User } from '../capsule/users.ts';
import { UserFiles } from '../files/user-files.ts';
import type { Logger } from '../log.ts';
import { type Adjustments, adjust, type Consent } from './adjust.ts';
import type { Agreements } from './agreements.ts';
import {
  type ProfileFolders,
  type ProfileSet,
  readProfiles,
  rememberingParser,
  sentencesOf,
} from './folders.ts';
import { librariesOf } from './libraries.ts';
import { type Match, matchProfile } from './match.ts';
import type { ProfileProblem } from './profile.ts';
import { type CommandLine, type Program, programsOf } from './programs.ts';
import { pythonModulesOf } from './python-modules.ts';

/** A start that profiles are looked up for. */
export interface Start extends CommandLine {
  root: string;
  user: User;
  application: string | undefined;
}

export interface Applied {
  adjustments: Adjustments;
  matches: Match[];
  programs: Program[];
  problems: ProfileProblem[];
}

export class Profiles {
  readonly #folders: ProfileFolders;
  readonly #agreements: Agreements;
  readonly #log: Logger;
  readonly #parse = rememberingParser();

  constructor(folders: ProfileFolders, agreements: Agreements, log: Logger) {
    this.#folders = folders;
    this.#agreements = agreements;
    this.#log = log;
  }

  /** All profiles for a user, and what is wrong with those that are left out. */
  read(user: User | undefined): Promise<ProfileSet> {
    return readProfiles(this.#folders, user, this.#parse);
  }

  /** Which profiles are for an application, and what they come to. */
  async lookUp(start: Start): Promise<Applied> {
    const files = new UserFiles(start.root, start.user);
    const [{ profiles, problems }, programs] = await Promise.all([
      // In another root folder its user has another home.
      this.read(start.root === '/' ? start.user : undefined),
      programsOf(start, files),
    ]);
    const libraries = remembered((program) => librariesOf(program, files));
    const modules = remembered((program) => pythonModulesOf(program, files));
    const candidate = {
      command: start.command,
      application: start.application,
      isRoot: start.user.uid === 0,
      programs,
      list: (folder: string) => files.list(folder),
      libraries,
      modules,
    };
    const found = await Promise.all(profiles.map((profile) => matchProfile(profile, candidate)));
    const matches = found.filter((match) => match !== undefined);
    return {
      adjustments: adjust(matches, start.command, start.application),
      matches,
      programs,
      problems,
    };
  }

  /**
   * The same for a start that is to happen: what is agreed to now is remembered.
   * @throws TorporError `blocked` where an application cannot run in a capsule, or its user has yet to agree.
   */
  async forStart(start: Start, agreed: readonly string[]): Promise<Applied> {
    const applied = await this.lookUp(start);
    for (const sentence of sentencesOf(applied.problems))
      this.#log.warn({ uid: start.user.uid }, `a profile is left out: ${sentence}`);
    refuseIfBlocked(applied.adjustments);
    const { consents } = applied.adjustments;
    const unknown = agreed.find((id) => !consents.some((consent) => consent.id === id));
    if (unknown !== undefined && consents.length > 0) {
      throw new TorporError(
        'usage',
        `Nothing is to be agreed to as "${unknown.slice(0, 80)}".`,
        `What can be agreed to here: ${consents.map(({ id }) => id).join(', ')}.`,
      );
    }
    for (const consent of consents.filter(({ id }) => agreed.includes(id)))
      await this.#agreements.add(start.user.uid, consent.id, consent.program);
    refuseIfNotAgreed(this.missing(applied, start.user), start.command);
    return applied;
  }

  /** What the user has yet to agree to. */
  missing({ adjustments }: Applied, { uid }: User): Consent[] {
    return adjustments.consents.filter(({ id, program }) => !this.#agreements.has(uid, id, program));
  }

  /** Takes back an agreement, for all applications. @throws TorporError `not-found` where there is none. */
  async takeBack(user: User, consent: string): Promise<void> {
    if ((await this.#agreements.remove(user.uid, consent)) > 0) return;
    const others = new Set(this.#agreements.of(user.uid).map((each) => each.consent));
    throw new TorporError(
      'not-found',
      `${user.name} has not agreed to "${consent.slice(0, 80)}".`,
      others.size === 0 ? 'There is nothing that was agreed to.' : `Agreed to: ${[...others].join(', ')}.`,
    );
  }
}

/** The same question of a program, which many profiles ask, is answered once. */
function remembered(answer: (program: string) => Promise<Set<string>>) {
  const known = new Map<string, Promise<Set<string>>>();
  return (program: string): Promise<Set<string>> => {
    const found = known.get(program) ?? answer(program);
    known.set(program, found);
    return found;
  };
}

function refuseIfBlocked({ findings }: Adjustments): void {
  const blocking = findings.find(({ verdict }) => verdict === 'blocking');
  if (blocking === undefined) return;
  throw new TorporError('blocked', blocking.what, blocking.hint, { findings });
}

function refuseIfNotAgreed(missing: readonly Consent[], command: readonly string[]): void {
  const [first] = missing;
  if (first === undefined) return;
  const options = [...new Set(missing.map(({ id }) => `--agree ${id}`))].join(' ');
  throw new TorporError(
    'blocked',
    missing.map(({ what }) => what.en).join(' '),
    `If you agree: \`torpor run ${options} -- ${command.map(quoted).join(' ')}\`. It is asked once and remembered.`,
    { consents: missing },
  );
}

const longestWord = 60;

function quoted(word: string): string {
  const short = word.length > longestWord ? `${word.slice(0, longestWord)}…` : word;
  return /^[\w@%+=:,./-]+$/.test(short) ? short : `'${short.replaceAll("'", "'\\''")}'`;
}

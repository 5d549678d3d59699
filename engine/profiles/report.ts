/** What a user is told of profiles: which there are, which are broken, and what they make of a command. */
import { TorporError } from '../../api/errors.ts';
import type { ProfileQuery, ProfileReport } from '../../api/types.ts';
import { applicationEnvironment } from '../capsule/environment.ts';
import { applicationOf } from '../capsule/run-options.ts';
import { findUser } from '../capsule/users.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import { type ProfileProblem, problemSentence } from './profile.ts';
import type { Profiles } from './profiles.ts';

/** @throws TorporError `not-permitted` where it is asked for another user */
export async function reportProfiles(
  profiles: Profiles,
  caller: Caller,
  query: ProfileQuery,
): Promise<ProfileReport> {
  const user = await findUser(query.user ?? caller.uid);
  if (!mayUse(caller, user.uid)) {
    throw new TorporError(
      'not-permitted',
      `You may not see the profiles of ${user.name}.`,
      'Use sudo, or leave out --user.',
    );
  }
  const set = await profiles.read(user);
  const report: ProfileReport = {
    profiles: set.profiles.map(({ name, title, origin, file }) => ({ name, title, origin, file })),
    problems: set.problems.map(describeProblem),
  };
  if (query.command.length === 0) return report;
  const applied = await profiles.lookUp({
    command: query.command,
    cwd: query.cwd,
    env: applicationEnvironment(query.callerEnv, query.env, user, caller.uid === user.uid),
    root: '/',
    user,
    application: applicationOf(query.application),
  });
  const { adjustments, matches, programs } = applied;
  const missing = profiles.missing(applied, user);
  return {
    ...report,
    start: {
      programs: programs.map(({ path }) => path),
      matches: matches.map(({ profile, why }) => ({ profile: profile.name, why })),
      command: adjustments.command,
      environment: adjustments.environment,
      preloads: adjustments.preloads,
      consents: adjustments.consents.map((consent) => ({ ...consent, given: !missing.includes(consent) })),
      notes: adjustments.notes.map(({ text }) => text),
      findings: adjustments.findings,
    },
  };
}

const describeProblem = (problem: ProfileProblem) => ({ ...problem, sentence: problemSentence(problem) });

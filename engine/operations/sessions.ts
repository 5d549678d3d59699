/**
 * Sessions that have a name: workloads that were suspended at one instant, and that a restore brings back side by side.
 * What commits one is `transaction/set.ts`; the name is a part of that very file, so there is no moment at which the
 * workloads are suspended and their session is not known.
 */
import { availableParallelism } from 'node:os';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import {
  type LeftOut,
  longestSessionName,
  type ResumeChoices,
  type ResumeResult,
  type Session,
  type SessionMember,
  type SessionPolicyChange,
  type SessionPolicyState,
  type SessionReason,
  type SessionRestoreOptions,
  type SessionRestoreResult,
  type SessionSaveOptions,
  type SessionSaveResult,
  type SuspendResult,
} from '../../api/types.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import { wasCancelled } from '../locks.ts';
import type { SessionTitle, TitledSession } from '../store/sessions.ts';
import { MemberError } from '../transaction/set.ts';
import { type Caller, mayUse } from '../workload/registry.ts';
import type { OperationParts } from './parts.ts';
import type { CompleteSnapshot } from './references.ts';
import type { Resumes } from './resumes.ts';
import type { Suspends } from './suspends.ts';

/** Fewer would leave a disk idle that answers one of them. */
const fewestAtOnce = 2;

/** A session's member, and its snapshot where there still is one. */
interface Found {
  member: SessionMember;
  manifest: Manifest | undefined;
}

export class SessionOperations {
  readonly #parts: OperationParts;
  readonly #suspends: Suspends;
  readonly #resumes: Resumes;

  constructor(parts: OperationParts, suspends: Suspends, resumes: Resumes) {
    this.#parts = parts;
    this.#suspends = suspends;
    this.#resumes = resumes;
  }

  /** @throws TorporError, and then all run on; `failed` where nothing runs, or where the name is another session's. */
  async saveSession(
    caller: Caller,
    name: string,
    targets: readonly string[],
    options: SessionSaveOptions,
  ): Promise<SessionSaveResult> {
    const title = titleOf(caller, name, options.reason);
    const { locks, sessions } = this.#parts;
    return locks.hold(keyOf(title), `The session "${title.name}"`, 'saved', async () => {
      const before = (await sessions.titled()).filter(
        ({ title: other }) => other.name === title.name && other.uid === title.uid,
      );
      if (!options.replace) await this.#refuseIfSuspended(caller, before);
      const chosen = targets.length > 0 ? targets : await this.#running(caller);
      if (chosen.length === 0)
        throw new TorporError('failed', 'Nothing is running that could be saved.', 'See `torpor ps`.');
      const { suspended, left } = await this.#suspend(caller, chosen, options, title);
      // From here on the new one has the name; whoever is called the same is older.
      for (const session of before)
        await this.#giveUpName(caller, session).catch((error: unknown) =>
          this.#parts.log.error({ err: error, session: session.id }, 'an older session keeps its name'),
        );
      return { session: await this.#find(caller, title.name), suspended, left };
    });
  }

  /** What was saved by itself, and has not come back yet, has to be found as long as that is so: by its time. */
  async #giveUpName(caller: Caller, session: TitledSession): Promise<void> {
    const { sessions } = this.#parts;
    const { name, reason } = session.title;
    const { members } = (await this.#describe(caller, session)).session;
    if (reason !== 'user' && members.some(({ state }) => state === 'ready'))
      await sessions.rename(session, `${name} ${session.takenAt.slice(0, 19).replace('T', ' ')}`);
    else await sessions.forgetTitle(session);
  }

  async #running(caller: Caller): Promise<string[]> {
    return (
      this.#parts.registry
        .visibleTo(caller)
        // One of which a snapshot is just being taken gives way, or is named as the reason why nothing is saved.
        .filter(({ status }) => status.kind !== 'suspended' && status.kind !== 'ended')
        .map(({ id }) => id)
    );
  }

  async #suspend(
    caller: Caller,
    targets: readonly string[],
    { partial, replace: _replace, reason: _reason, ...options }: SessionSaveOptions,
    title: SessionTitle,
  ): Promise<{ suspended: SuspendResult[]; left: LeftOut[] }> {
    const left: LeftOut[] = [];
    let chosen = targets;
    for (;;) {
      try {
        return { suspended: await this.#suspends.suspendSet(caller, chosen, options, title), left };
      } catch (error) {
        if (!partial || !(error instanceof MemberError)) throw error;
        const { own, member } = error;
        const rest = chosen.filter((each) => this.#parts.references.meant(each, caller)[0] !== member);
        if (rest.length === chosen.length || rest.length === 0) throw own;
        left.push(leftOut(this.#parts.registry.get(member) ?? { id: member, name: member }, own));
        chosen = rest;
      }
    }
  }

  async #refuseIfSuspended(caller: Caller, sessions: readonly TitledSession[]): Promise<void> {
    for (const session of sessions) {
      const { members, name } = (await this.#describe(caller, session)).session;
      const ready = members.filter(({ state }) => state === 'ready');
      if (ready.length === 0) continue;
      const names = ready.map((each) => each.name).join(', ');
      throw new TorporError(
        'failed',
        `There is a session "${name}" already, of which ${names} ${ready.length === 1 ? 'is' : 'are'} still suspended.`,
        `Restore it (\`torpor session restore ${name}\`), choose another name, or give the name to the new one with --replace: what the old one has stays suspended.`,
      );
    }
  }

  async restoreSession(
    caller: Caller,
    name: string,
    { own, ...choices }: SessionRestoreOptions,
  ): Promise<SessionRestoreResult> {
    const session = await this.#stored(caller, name);
    const { locks, registry } = this.#parts;
    return locks.hold(keyOf(session.title), `The session "${session.title.name}"`, 'restored', async () => {
      const found = (await this.#describe(caller, session)).found.filter(
        ({ manifest }) => !own || (manifest !== undefined && specOf(manifest).user.uid === caller.uid),
      );
      const resumed: ResumeResult[] = [];
      const left: LeftOut[] = found.flatMap(({ member }) => {
        const why = whyNot(member, own ?? false);
        return why === undefined
          ? []
          : [{ workload: member.workload, name: member.name, findings: [], ...why }];
      });
      // What somebody has ended comes back only where it is asked for.
      const isMeant = ({ state }: SessionMember) => state === 'ready' || (state === 'ended' && !own);
      const groups = connectedGroups(
        found.flatMap(({ member, manifest }) =>
          isMeant(member) && manifest !== undefined ? [manifest] : [],
        ),
      );
      const next = groups[Symbol.iterator]();
      let givenUp: unknown;
      const work = async () => {
        for (const group of next) {
          try {
            // Whoever gives one up gives up all.
            if (givenUp !== undefined) throw givenUp;
            resumed.push(...(await this.#resume(caller, group, choices)));
          } catch (error) {
            if (wasCancelled(error)) givenUp = error;
            for (const { workload, name: member } of group)
              left.push(leftOut(registry.get(workload) ?? { id: workload, name: member }, error));
          }
        }
      };
      const atOnce = Math.max(fewestAtOnce, availableParallelism());
      await Promise.all(Array.from({ length: atOnce }, work));
      return { session: (await this.#describe(caller, session)).session, resumed, left };
    });
  }

  async #resume(caller: Caller, group: readonly Manifest[], choices: ResumeChoices): Promise<ResumeResult[]> {
    const [only] = group;
    if (only !== undefined && group.length === 1)
      return [await this.#resumes.resume(caller, only.id, { ...choices, copy: false }, { inSession: true })];
    return this.#resumes.resumeSet(
      caller,
      group.map(({ id }) => id),
      choices,
      { inSession: true },
    );
  }

  async sessions(caller: Caller): Promise<Session[]> {
    const all = await Promise.all(
      (await this.#visible(caller)).map((session) => this.#describe(caller, session)),
    );
    return all.map(({ session }) => session);
  }

  async forgetSession(caller: Caller, name: string): Promise<void> {
    const session = await this.#stored(caller, name);
    const { uid } = session.title;
    if (!mayUse(caller, uid))
      throw new TorporError(
        'not-permitted',
        `The session "${session.title.name}" was saved by another user.`,
        'Ask them, or root, to forget it.',
      );
    await this.#parts.locks.hold(
      keyOf(session.title),
      `The session "${session.title.name}"`,
      'forgotten',
      () => this.#parts.sessions.forgetTitle(session),
    );
  }

  async policy({ uid }: Caller): Promise<SessionPolicyState> {
    const { policies } = this.#parts;
    return { ...policies.of(uid), isTold: policies.isTold };
  }

  async setPolicy(caller: Caller, change: SessionPolicyChange): Promise<SessionPolicyState> {
    if (change.machine && caller.uid !== 0)
      throw new TorporError(
        'not-permitted',
        'What happens to the sessions of all users is for root to choose.',
        'Use sudo, or choose for yourself, without --machine.',
      );
    await this.#parts.policies.change(caller.uid, change);
    this.#parts.log.info({ change, uid: caller.uid }, 'session policy changed');
    return this.policy(caller);
  }

  async #find(caller: Caller, name: string): Promise<Session> {
    return (await this.#describe(caller, await this.#stored(caller, name))).session;
  }

  /**
   * Those that still have something, and of which the caller may see a member or has given the name; of one name by one
   * user, the newest.
   */
  async #visible(caller: Caller): Promise<TitledSession[]> {
    const stored = new Map((await this.#snapshots()).map(({ id, manifest }) => [id, manifest]));
    const mine = (await this.#parts.sessions.titled()).filter(({ title, members }) => {
      const left = members.flatMap(({ snapshot }) => stored.get(snapshot) ?? []);
      if (mayUse(caller, title.uid)) return left.length > 0;
      return left.some((manifest) => mayUse(caller, specOf(manifest).user.uid));
    });
    return mine.filter(
      ({ title }, index) => mine.findIndex((other) => keyOf(other.title) === keyOf(title)) === index,
    );
  }

  /** By its name, of which one's own comes before another's, or by its id. */
  async #stored(caller: Caller, name: string): Promise<TitledSession> {
    const all = await this.#visible(caller);
    const fits = all.filter(({ title }) => title.name === name.trim());
    const session =
      all.find(({ id }) => id === name) ?? fits.find(({ title }) => title.uid === caller.uid) ?? fits[0];
    if (session !== undefined) return session;
    throw new TorporError('not-found', `There is no session "${name}".`, 'See `torpor session ls`.');
  }

  async #snapshots(): Promise<CompleteSnapshot[]> {
    return (await this.#parts.store.list()).flatMap((item) => (item.kind === 'complete' ? item : []));
  }

  async #describe(
    caller: Caller,
    { id, title, takenAt, members }: TitledSession,
  ): Promise<{ session: Session; found: Found[] }> {
    const stored = new Map((await this.#snapshots()).map((each) => [each.id, each]));
    const found = members.flatMap(({ workload, name, snapshot }): Found[] => {
      const item = stored.get(snapshot);
      const manifest = item?.manifest;
      const record = this.#parts.registry.get(workload);
      const known = manifest ?? record;
      const spec = known && specOf(known);
      if (spec !== undefined && !mayUse(caller, spec.user.uid)) return [];
      return [
        {
          manifest,
          member: {
            ...{ workload, name: record?.name ?? name, user: spec?.user.name ?? '', snapshot },
            state: this.#stateOf(workload, snapshot, item),
            ...(manifest?.lastUsedAt === undefined ? {} : { lastUsedAt: manifest.lastUsedAt }),
          },
        },
      ];
    });
    found.sort((a, b) => Number(isBefore(b, a)) - Number(isBefore(a, b)));
    const memoryBytes = found.reduce((sum, { manifest }) => sum + (manifest?.memoryBytes ?? 0), 0);
    const { name, reason } = title;
    return {
      session: {
        id,
        name,
        savedAt: takenAt,
        reason,
        memoryBytes,
        members: found.map(({ member }) => member),
      },
      found,
    };
  }

  #stateOf(workload: string, snapshot: string, item: CompleteSnapshot | undefined): SessionMember['state'] {
    const { registry } = this.#parts;
    const status = registry.get(workload)?.status;
    if (status?.kind === 'suspended' && status.snapshot !== snapshot) return 'later';
    if (status !== undefined && status.kind !== 'suspended' && status.kind !== 'ended') return 'running';
    if (item === undefined) return 'gone';
    if (status?.kind === 'suspended' || item.usedAt === undefined) return 'ready';
    // A workload that is known no more came back as another one.
    const runs = registry
      .all()
      .some((other) => other.status.kind === 'running' && other.status.snapshot === snapshot);
    return runs ? 'running' : 'ended';
  }
}

/** Of which it is not known comes last. */
const isBefore = ({ member: a }: Found, { member: b }: Found) => (a.lastUsedAt ?? '') > (b.lastUsedAt ?? '');

const keyOf = ({ name, uid }: Pick<SessionTitle, 'name' | 'uid'>) => `session ${uid} ${name}`;

/** @throws TorporError `usage` of what is no name; `not-permitted` of a reason that is not for the caller to give. */
function titleOf({ uid }: Caller, given: string, reason: SessionReason = 'user'): SessionTitle {
  const name = given.trim();
  if (name === '' || [...name].length > longestSessionName || /[\p{Cc}\p{Zl}\p{Zp}]/u.test(name))
    throw new TorporError(
      'usage',
      `"${given}" cannot be the name of a session.`,
      `Give a line of up to ${longestSessionName} characters.`,
    );
  if (reason !== 'user' && uid !== 0)
    throw new TorporError('not-permitted', 'Only root saves a session for another reason than its own wish.');
  return { name, uid, reason };
}

function whyNot(
  { name, state, snapshot }: SessionMember,
  own: boolean,
): Pick<LeftOut, 'what' | 'hint'> | undefined {
  switch (state) {
    case 'ready':
      return undefined;
    case 'running':
      return { what: `${name} is running already.`, hint: '' };
    case 'later':
      return {
        what: `${name} was resumed, and suspended anew, after this session was saved.`,
        hint: `Resume that later state with \`torpor resume ${name}\`.`,
      };
    case 'ended':
      return own
        ? {
            what: `${name} was resumed, and has ended since.`,
            hint: `Go back to what it was: \`torpor resume ${snapshot}\`.`,
          }
        : undefined;
    case 'gone':
      return { what: `The snapshot of ${name} was removed.`, hint: '' };
  }
}

function leftOut({ id, name }: { id: string; name: string }, error: unknown): LeftOut {
  const known = error instanceof TorporError ? error : undefined;
  const { findings } = (known?.details ?? {}) as { findings?: LeftOut['findings'] };
  return { workload: id, name, what: sentenceOf(error), hint: known?.hint ?? '', findings: findings ?? [] };
}

/** Which have a socket or a pipe in common, and so come back together: in the order of their first ones. Pure. */
export function connectedGroups(manifests: readonly Manifest[]): Manifest[][] {
  const groups: Manifest[][] = [];
  for (const manifest of manifests) {
    const touching = groups.filter((group) => group.some((other) => areConnected(manifest, other)));
    const [first] = touching;
    if (first === undefined) {
      groups.push([manifest]);
      continue;
    }
    first.push(...touching.slice(1).flat(), manifest);
    for (const merged of touching.slice(1)) groups.splice(groups.indexOf(merged), 1);
  }
  return groups;
}

const areConnected = (a: Manifest, b: Manifest) => reaches(a, b) || reaches(b, a);

const reaches = ({ externalSockets = [], sharedPipes = [] }: Manifest, { workload }: Manifest) =>
  externalSockets.some((socket) => socket.decision === 'session' && socket.workload === workload) ||
  sharedPipes.some(({ workloads }) => workloads.includes(workload));

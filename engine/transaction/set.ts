/**
 * Several workloads suspended in one shot. Each goes through its own suspend transaction with a CRIU of its own, and
 * they wait for each other twice: before the freeze, so that all cgroups are frozen at one instant and none of the
 * checkpoints begins before; and after the commit of its own snapshot, so that nothing is ended before all snapshots
 * are durable. What commits the set is one file, that of the session. Until it is written whatever fails in one makes
 * all run on, and no snapshot of the set remains; from then on all are suspended, whatever happens.
 */
import { randomBytes } from 'node:crypto';
import { TorporError } from '../../api/errors.ts';
import type { SuspendOptions } from '../../api/types.ts';
import type { SessionMembership } from '../../proto/manifest.ts';
import type { CriuClient } from '../criu/client.ts';
import type { Facts } from '../inspect/facts.ts';
import type { Installation } from '../installation.ts';
import { wasCancelled } from '../locks.ts';
import { isAlive } from '../process.ts';
import { type EndsBetween, endsBetween, nothingBetween, refuseTwoReaders } from '../sockets/between.ts';
import type { Sessions, SessionTitle } from '../store/sessions.ts';
import { RestlessError } from '../workload/cgroup.ts';
import type { StatusOf, WorkloadRecord } from '../workload/record.ts';
import { Meeting } from './meeting.ts';
import { noSpace } from './no-space.ts';
import type { SuspendPlace } from './place.ts';
import { type SuspendOperation, type SuspendOutcome, type SuspendParts, suspend } from './suspend.ts';

type Running = WorkloadRecord & { status: StatusOf<'running'> };

export interface SetParts extends SuspendParts {
  sessions: Sessions;
  criu: CriuClient;
  installation: Installation;
}

/** One member's view of the set. */
export interface SetMember {
  readonly session: SessionMembership;
  /** The session exists: nothing goes back any more. */
  readonly isCommitted: boolean;
  /** Names of the other members by the pids of their processes, as of now. */
  companions(): Promise<ReadonlyMap<number, string>>;
  /** Waits until all are frozen. @returns its sockets and pipes that lead to other members. */
  freeze(facts: Facts): Promise<EndsBetween>;
  /** The member's snapshot is committed: waits until the session is. */
  commit(snapshot: string, suspending: StatusOf<'suspending'> | undefined): Promise<void>;
}

/**
 * Suspends running workloads at one instant.
 * @param title what the session is saved as, if it gets a name.
 * @throws MemberError of the one that failed, or what failed for all of them; all run on then.
 */
export async function suspendSet(
  parts: SetParts,
  records: readonly Running[],
  placeOf: (record: Running) => SuspendPlace,
  options: SuspendOptions,
  operationOf: (record: WorkloadRecord) => SuspendOperation,
  signal: AbortSignal,
  title?: SessionTitle,
): Promise<SuspendOutcome[]> {
  using _places = await parts.criu.forSet(records.length, signal);
  const members = records.map((record) => ({ record, place: placeOf(record) }));
  const set = new SuspendSet(parts, members, options.leaveRunning, title);
  const onAbort = () => set.fail(undefined, signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const results = await Promise.allSettled(
      members.map(({ record, place }) =>
        suspend(parts, record, place, options, operationOf(record), set.member(record)).catch(
          (error: unknown) => {
            set.fail(record.id, error);
            throw error;
          },
        ),
      ),
    );
    const outcomes = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    if (outcomes.length === records.length) return outcomes;
    const causes = results.map((result) => (result.status === 'rejected' ? result.reason : undefined));
    // Nobody's failure, whoever met it first.
    if (signal.aborted) throw causes.find(wasCancelled) ?? signal.reason;
    if (set.own !== undefined) throw noSpace(set.own) ?? set.own;
    const first = records.findIndex(({ id }) => id === set.failed);
    throw failure(records, causes[first] ?? causes.find((each) => each !== undefined), first);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** One member failed, so all run on. */
export class MemberError extends TorporError {
  /** Which one failed: the id of a workload, or `process PID` of what would have become one. */
  member: string;
  /** Its own failure, without a word of the others. */
  readonly own: TorporError;

  constructor(member: string, own: TorporError, others: readonly string[]) {
    const run =
      others.length === 1 ? 'was not suspended either and runs' : 'were not suspended either and run';
    const so = others.length === 0 ? '' : ` So ${others.join(', ')} ${run} on.`;
    super(own.code, `${own.message}${so}`, own.hint, own.details, { cause: own.cause });
    this.member = member;
    this.own = own;
  }
}

function failure(records: readonly Running[], error: unknown, index: number): unknown {
  const member = records[index];
  if (!(error instanceof TorporError) || member === undefined) return error;
  const others = records.filter((each) => each !== member).map(({ name }) => name);
  return new MemberError(member.id, error, others);
}

class SuspendSet {
  readonly #parts: SetParts;
  readonly #members: readonly { record: Running; place: SuspendPlace }[];
  readonly #records: readonly Running[];
  readonly #leaveRunning: boolean;
  readonly #title: SessionTitle | undefined;
  readonly #membership: SessionMembership;
  readonly #frozen: Meeting;
  readonly #committed: Meeting;
  readonly #snapshots = new Map<
    string,
    { snapshot: string; suspending: StatusOf<'suspending'> | undefined }
  >();
  readonly #facts = new Map<string, Facts>();
  #between: ReadonlyMap<string, EndsBetween> = new Map();
  #isCommitted = false;
  /** The member that failed first. */
  failed: string | undefined;
  /** What failed for all of them. */
  own: unknown;

  constructor(
    parts: SetParts,
    members: readonly { record: Running; place: SuspendPlace }[],
    leaveRunning: boolean,
    title: SessionTitle | undefined,
  ) {
    const records = members.map(({ record }) => record);
    this.#parts = parts;
    this.#members = members;
    this.#records = records;
    this.#leaveRunning = leaveRunning;
    this.#title = title;
    this.#membership = {
      id: randomBytes(6).toString('hex'),
      members: records.map(({ id, name }) => ({ workload: id, name })),
    };
    this.#frozen = new Meeting(records.length, () => this.#forAll(() => this.#freeze()));
    this.#committed = new Meeting(records.length, () => this.#forAll(() => this.#commit()));
  }

  member({ id }: Running): SetMember {
    const set = this;
    return {
      session: this.#membership,
      get isCommitted() {
        return set.#isCommitted;
      },
      companions: () => this.#companionsOf(id),
      freeze: async (facts) => {
        this.#facts.set(id, facts);
        await this.#frozen.join();
        return this.#between.get(id) ?? nothingBetween;
      },
      commit: async (snapshot, suspending) => {
        this.#snapshots.set(id, { snapshot, suspending });
        await this.#committed.join();
      },
    };
  }

  fail(id: string | undefined, error: unknown): void {
    this.failed ??= id;
    this.#frozen.callOff(error);
    this.#committed.callOff(error);
  }

  /** Does what is done once for all. Its failure is theirs only where it names one. */
  async #forAll(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof RestlessError) this.failed ??= error.workload;
      else if (this.failed === undefined) this.own = error;
      throw error;
    }
  }

  async #companionsOf(id: string): Promise<Map<number, string>> {
    const others = this.#members.filter(({ record }) => record.id !== id);
    const lists = await Promise.all(
      others.map(async ({ record, place }) => (await place.pids()).map((pid) => ({ pid, record }))),
    );
    return new Map(lists.flat().map(({ pid, record }) => [pid, record.name]));
  }

  async #freeze(): Promise<void> {
    const ids = this.#records.map(({ id }) => id);
    refuseTwoReaders(
      this.#records.flatMap(({ id, name }) => {
        const facts = this.#facts.get(id);
        return facts === undefined ? [] : [{ name, facts }];
      }),
    );
    await this.#parts.cgroups.freeze(ids);
    this.#between = await endsBetween(
      await Promise.all(
        this.#records.map(async ({ id }) => ({ id, pids: await this.#parts.cgroups.pids(id) })),
      ),
      this.#parts.installation.sockdiag,
    );
  }

  /** Every snapshot is durable. From the end of this on the workloads are suspended. */
  async #commit(): Promise<void> {
    const { cgroups, sessions, registry, log } = this.#parts;
    if (!this.#leaveRunning) {
      // What is held cannot run on, even where its CRIU is killed from here on.
      await Promise.all(this.#records.map(({ id }) => cgroups.hold(id)));
      await this.#refuseWithoutCriu();
    }
    const members = this.#records.map(({ id, name }) => {
      const snapshot = this.#snapshots.get(id)?.snapshot ?? '';
      return { workload: id, name, snapshot };
    });
    await sessions.commit({
      version: 1,
      id: this.#membership.id,
      takenAt: new Date().toISOString(),
      members,
      ...(this.#title === undefined ? {} : { title: this.#title }),
    });
    this.#isCommitted = true;
    log.info({ session: this.#membership.id, members }, 'session committed');
    if (this.#leaveRunning) return;
    for (const [id, { suspending }] of this.#snapshots) {
      if (suspending === undefined) continue;
      // A recovering engine goes by the session.
      await registry
        .setPassingStatus(id, { ...suspending, releasing: true })
        .catch((error: unknown) => log.error({ err: error, workload: id }, 'could not write its record'));
    }
  }

  async #refuseWithoutCriu(): Promise<void> {
    for (const { id, name } of this.#records) {
      const criu = this.#snapshots.get(id)?.suspending?.criu;
      if (criu !== undefined && (await isAlive(criu))) continue;
      this.failed ??= id;
      throw new TorporError('failed', `CRIU ended before it had ended ${name}.`);
    }
  }
}

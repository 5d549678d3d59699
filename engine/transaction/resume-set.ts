/**
 * Several snapshots resumed in one call, each by a CRIU of its own. They wait for each other twice: when each knows its
 * sockets and pipes, so that those between two of them can be connected; and when all are restored, so that nothing runs before
 * everything is there. What fails in one before that makes all of them stay suspended.
 */
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Finding, ResumeChoices } from '../../api/types.ts';
import type { Manifest } from '../../proto/manifest.ts';
import type { CriuClient } from '../criu/client.ts';
import type { InheritedFd } from '../criu/options.ts';
import type { Installation } from '../installation.ts';
import { meetNetwork } from '../network/network.ts';
import { type ConnectEnds, ConnectedSockets } from '../sockets/pairs.ts';
import { SharedPipes } from '../sockets/pipes.ts';
import type { WorkloadRecord } from '../workload/record.ts';
import { Meeting } from './meeting.ts';
import type { ResumePlace } from './place.ts';
import type { Report } from './progress.ts';
import { type ResumeOutcome, type ResumeParts, resume } from './resume.ts';

/** One member's view of the set. */
export interface ResumeMember {
  /** What there is to say of the network, which all have waited for. */
  readonly network: readonly Finding[];
  /** Waits until all know their sockets and pipes. @returns how sockets to other members come back, by inode. */
  connect: ConnectEnds;
  /** Its pipes to other members, once all are connected. */
  pipes(): readonly InheritedFd[];
  /** Waits until all are restored; nothing of any has run yet. */
  restored(): Promise<void>;
}

export interface ResumeSetParts extends ResumeParts {
  criu: CriuClient;
  installation: Installation;
}

export interface ToResume {
  record: WorkloadRecord;
  manifest: Manifest;
  makePlace: () => Promise<ResumePlace>;
  report: Report;
  choices: ResumeChoices;
}

/**
 * Resumes workloads, none of which runs.
 * @throws TorporError of the one that failed; none of them runs then.
 */
export async function resumeSet(
  parts: ResumeSetParts,
  members: readonly ToResume[],
  scratch: string,
  signal: AbortSignal,
): Promise<ResumeOutcome[]> {
  // Nobody else's set is to wait meanwhile.
  const networks = await Promise.all(
    members.map(({ manifest, choices, report }) =>
      meetNetwork(manifest, choices.waitNetwork, () => report('network'), signal),
    ),
  );
  using _places = await parts.criu.forSet(members.length, signal);
  const set = new ResumeSet(parts, members, scratch);
  const onAbort = () => set.fail(undefined, signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const results = await Promise.allSettled(
      members.map(({ record, manifest, makePlace, report, choices }, index) => {
        const member = set.member(manifest, networks[index] ?? []);
        return resume(parts, record, manifest, makePlace, report, signal, choices, member).catch(
          (error: unknown) => {
            set.fail(manifest.id, error);
            throw error;
          },
        );
      }),
    );
    const outcomes = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    if (outcomes.length === members.length) return outcomes;
    const causes = results.map((result) => (result.status === 'rejected' ? result.reason : undefined));
    const first = members.findIndex(({ manifest }) => manifest.id === set.failed);
    throw failure(members, causes[first] ?? causes.find((each) => each !== undefined), first);
  } finally {
    signal.removeEventListener('abort', onAbort);
    await set[Symbol.asyncDispose]();
  }
}

function failure(members: readonly ToResume[], error: unknown, index: number): unknown {
  if (!(error instanceof TorporError)) return error;
  const others = members.filter((_member, each) => each !== index).map(({ record }) => record.name);
  return new TorporError(
    error.code,
    `${error.message} So ${others.join(', ')} ${others.length === 1 ? 'was' : 'were'} not resumed either.`,
    error.hint,
    error.details,
    { cause: error.cause },
  );
}

class ResumeSet implements AsyncDisposable {
  readonly #parts: ResumeSetParts;
  readonly #connected: ConnectedSockets;
  readonly #pipes = new SharedPipes();
  readonly #prepared: Meeting;
  readonly #restored: Meeting;
  /** The snapshot that failed first. */
  failed: string | undefined;

  constructor(parts: ResumeSetParts, members: readonly ToResume[], scratch: string) {
    this.#parts = parts;
    this.#connected = new ConnectedSockets(parts.installation.socketPairs, scratch);
    this.#prepared = new Meeting(members.length, async () => {
      await this.#connected.connect();
      this.#pipes.make();
    });
    this.#restored = new Meeting(members.length, async () => {});
  }

  member(manifest: Manifest, network: readonly Finding[]): ResumeMember {
    return {
      network,
      connect: async (sockets) => {
        this.#connected.add(manifest, sockets);
        await this.#pipes.add(manifest, join(this.#parts.store.contentFolderOf(manifest.id), 'images'));
        await this.#prepared.join();
        return this.#connected.of(manifest);
      },
      pipes: () => this.#pipes.of(manifest),
      restored: () => this.#restored.join(),
    };
  }

  fail(id: string | undefined, error: unknown): void {
    this.failed ??= id;
    this.#prepared.callOff(error);
    this.#restored.callOff(error);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#pipes[Symbol.dispose]();
    return this.#connected[Symbol.asyncDispose]();
  }
}

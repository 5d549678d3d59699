/**
 * Sessions that have a name: which there are, as the engine tells it, and what the windows ask to be done with them. One of
 * them, of a name that is always the same, is what was suspended all at once last.
 */
import { z } from 'zod';
import { sentenceOf, TorporError } from '../api/errors.ts';
import {
  findingSchema,
  isAlive,
  type LeftOut,
  type ResumeChoices,
  type Session,
  type SessionRestoreOptions,
  type Workload,
} from '../api/types.ts';
import type { CallArguments } from './ipc/schema.ts';
import type { Notice, SessionRestored, SessionSaved } from './ipc/view.ts';
import { noticeOf } from './notice.ts';
import type { EngineLink } from './state/engine-link.ts';
import type { Workloads } from './state/workloads.ts';

type SaveRequest = CallArguments<'session.save'>[0];

/** What all that runs is suspended as. It is the same in every language, so that it is found again after a change of that. */
export const lastSession = 'Last';
/** More at once would only wait for the same disk. */
const atOnce = 2;

const findingsSchema = z.object({ findings: z.array(findingSchema) });
const cancelledSchema = z.object({ cancelled: z.literal(true) });

export interface SessionParts {
  link: EngineLink;
  workloads: Workloads;
  /** How the user wants applications to come back. */
  choices: () => ResumeChoices;
  /** Keeps the app's own connections away from their screens until that is disposed. */
  hold: (workloads: readonly string[]) => Promise<Disposable>;
  changed: () => void;
}

export class Sessions {
  readonly #parts: SessionParts;
  #all: readonly Session[] = [];
  #reading: Promise<void> | undefined;
  #isStale = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    const { link } = parts;
    // The engine says nothing of sessions by itself; but whatever becomes of one begins or ends with one of these.
    for (const event of ['connected', 'workload', 'snapshots', 'forgotten'] as const)
      link.on(event, () => void this.read());
  }

  /** Newest first. */
  all(): readonly Session[] {
    return this.#all;
  }

  /** Reads them again; a request that comes while they are read makes them be read once more. */
  async read(): Promise<void> {
    this.#isStale = true;
    this.#reading ??= this.#readUntilFresh().finally(() => {
      this.#reading = undefined;
    });
    await this.#reading;
  }

  async #readUntilFresh(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false;
      try {
        this.#all = await this.#parts.link.client().sessions();
      } catch {
        // Without an engine; they are read when it is back.
        return;
      }
      this.#parts.changed();
    }
  }

  /** @throws TorporError only where there is no engine to ask. */
  async save({ name, workloads, partial, replace }: SaveRequest): Promise<SessionSaved> {
    const client = this.#parts.link.client();
    using _held = await this.#parts.hold(workloads);
    try {
      const { suspended, left } = await client.saveSession(name, workloads, {
        leaveRunning: false,
        ...(partial ? { partial } : {}),
        ...(replace ? { replace } : {}),
      });
      const freedBytes = suspended.reduce((sum, each) => sum + each.freedBytes, 0);
      return { kind: 'saved', suspended: suspended.length, freedBytes, left };
    } catch (error) {
      return refusalOf(error);
    } finally {
      await this.#ended(workloads);
    }
  }

  async restore(name: string, which: Pick<SessionRestoreOptions, 'own'> = {}): Promise<SessionRestored> {
    const members = this.#all.find((session) => session.name === name)?.members ?? [];
    try {
      const { session, resumed, left } = await this.#parts.link
        .client()
        .restoreSession(name, { ...which, ...this.#parts.choices() });
      const running = session.members.filter(({ state }) => state === 'running');
      return {
        resumed: resumed.length,
        // What runs already is as the user wants it.
        left: left.filter((each) => !running.some(({ workload }) => workload === each.workload)),
      };
    } finally {
      await this.#ended(members.map(({ workload }) => workload));
    }
  }

  async forget(name: string): Promise<void> {
    await this.#parts.link.client().forgetSession(name);
    await this.read();
  }

  /** All that runs, at one instant. One that cannot be suspended runs on and is told of. */
  async suspendAll(): Promise<{ suspended: number; failed: Notice[] }> {
    const running = await this.#workloads(isAlive);
    if (running.length === 0) return { suspended: 0, failed: [] };
    const saved = await this.save({ name: lastSession, workloads: running, partial: true, replace: true });
    if (saved.kind === 'saved') return { suspended: saved.suspended, failed: saved.left.map(noticeOfLeft) };
    const { cancelled, message, hint } = saved;
    return { suspended: 0, failed: [{ level: cancelled ? 'info' : 'error', message, hint }] };
  }

  /** What the last {@link suspendAll} has suspended and is so still; all that is suspended where there was none. */
  async resumeLast(): Promise<{ resumed: number; failed: Notice[] }> {
    const [suspended] = await Promise.all([
      this.#workloads(({ state }) => state === 'suspended'),
      this.read(),
    ]);
    const last = this.#all.find(({ name }) => name === lastSession);
    const members = last?.members.filter(({ workload }) => suspended.includes(workload)) ?? [];
    if (members.length === 0) return this.#resumeEach(suspended);
    const ready = members.flatMap(({ workload, state }) => (state === 'ready' ? workload : []));
    // What the user has ended since stays so.
    const restored =
      ready.length === 0 ? { resumed: 0, left: [] } : await this.restore(lastSession, { own: true });
    // The session leaves to themselves those that were suspended anew since; the user does not tell them apart.
    const others = members.flatMap(({ workload, state }) => (state === 'ready' ? [] : workload));
    const { resumed, failed } = await this.#resumeEach(others);
    return {
      resumed: restored.resumed + resumed,
      failed: [
        ...restored.left.filter(({ workload }) => ready.includes(workload)).map(noticeOfLeft),
        ...failed,
      ],
    };
  }

  async #workloads(isMeant: (workload: Workload) => boolean): Promise<string[]> {
    await this.#parts.workloads.refresh();
    return this.#parts.workloads
      .all()
      .filter(isMeant)
      .map(({ id }) => id);
  }

  async #resumeEach(ids: readonly string[]): Promise<{ resumed: number; failed: Notice[] }> {
    const failed: Notice[] = [];
    const next = ids[Symbol.iterator]();
    const work = async () => {
      for (const id of next)
        await this.#parts.link
          .client()
          .resume(id, { copy: false, ...this.#parts.choices() })
          .catch((error: unknown) => failed.push(noticeOf(error)));
    };
    await Promise.all(Array.from({ length: atOnce }, work));
    return { resumed: ids.length - failed.length, failed };
  }

  async #ended(workloads: readonly string[]): Promise<void> {
    for (const id of workloads) this.#parts.workloads.markDone(id);
    await this.read();
  }
}

const noticeOfLeft = ({ what, hint }: LeftOut): Notice => ({ level: 'error', message: what, hint });

function refusalOf(error: unknown): Extract<SessionSaved, { kind: 'refused' }> {
  const { details = {}, hint = '' } = error instanceof TorporError ? error : {};
  const { findings = [] } = findingsSchema.safeParse(details).data ?? {};
  return {
    kind: 'refused',
    cancelled: cancelledSchema.safeParse(details).success,
    message: sentenceOf(error),
    hint,
    findings: findings.filter(({ verdict }) => verdict === 'blocking'),
  };
}

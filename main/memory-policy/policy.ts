/**
 * The policy: puts applications that are not used aside, by naps and suspends, as the user's rules say, and wakes what its
 * user goes to. It looks when something has changed (a window, an application, the pressure on memory, the power) and when the
 * next one is due, and never in between. While it is not turned on it writes down what it would have done.
 */

import type { EngineClient } from '../../api/client.ts';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Applications, Power, SettingsStore, UserWindows } from '../desktop-parts.ts';
import type {
  MemoryPolicy,
  PolicyAction,
  PolicyApplication,
  PolicyCause,
  PolicyEntry,
  PolicyView,
} from '../ipc/policy-view.ts';
import type { Notice } from '../ipc/view.ts';
import { noticeOf } from '../notice.ts';
import type { EngineLink } from '../state/engine-link.ts';
import type { Workloads } from '../state/workloads.ts';
import { type Candidate, CandidateFinder } from './applications.ts';
import { type Considered, dueFor, inTurn } from './decide.ts';
import { mostAtOnce, type PolicyHistory } from './history.ts';

/** What stood in the way once, such as sound, may last. */
const againMs = 10 * 60_000;
/** A timer cannot be set for longer. */
const longestTimerMs = 2 ** 31 - 1;
const mostShown = 200;

export interface MemoryPolicyParts {
  link: EngineLink;
  workloads: Workloads;
  settings: SettingsStore;
  applications: Pick<Applications, 'of' | 'list'>;
  windows: UserWindows | undefined;
  power: Power | undefined;
  history: PolicyHistory;
  isPaused: () => boolean;
  tell: (notice: Notice) => void;
}

/** What is known of a candidate for as long as it runs. */
interface Memory {
  usedAt: number;
  minimisedAt: number | undefined;
  notBefore: number;
  /** It would nap, were the policy turned on. */
  isAside: boolean;
  /** Why it could not be put aside, which is written down once. */
  left: string | undefined;
}

type Known = Candidate & Considered;

export class MemoryPolicyEngine implements Disposable {
  readonly #parts: MemoryPolicyParts;
  readonly #finder: CandidateFinder;
  readonly #memories = new Map<string, Memory>();
  #screen: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #work: Promise<void> = Promise.resolve();
  #looksAgain = false;
  #pressureProblem: string | undefined;
  /** Keys of those in which the user was when it looked last. */
  #inFront: ReadonlySet<string> = new Set();
  readonly #waking = new Set<string>();

  constructor(parts: MemoryPolicyParts) {
    this.#parts = parts;
    this.#finder = new CandidateFinder(parts.applications);
    const look = () => this.look();
    parts.windows?.on('changed', look);
    parts.workloads.on('changed', look);
    parts.settings.onChange(() => {
      parts.power?.delaySleep(this.#delaysSleep);
      look();
    });
    parts.link.on('connected', (client) => void this.#listen(client));
    parts.power?.on('battery', look);
    parts.power?.on('lid', () => {
      if (this.#policy.atLidClose) this.#putAllAside('lid');
    });
    parts.power?.onSleep(async () => {
      if (!this.#policy.beforeSleep) return;
      this.#putAllAside('sleep');
      await this.#work;
    });
    parts.power?.delaySleep(this.#delaysSleep);
  }

  get #policy(): MemoryPolicy {
    return this.#parts.settings.value.memoryPolicy;
  }

  get #acts(): boolean {
    return this.#policy.mode === 'on' && !this.#parts.isPaused();
  }

  get #delaysSleep(): boolean {
    return this.#policy.mode === 'on' && this.#policy.beforeSleep;
  }

  /** What is not given stays as it is. @throws TorporError where it cannot be written down */
  async change(change: { [K in keyof MemoryPolicy]?: MemoryPolicy[K] | undefined }): Promise<void> {
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
    await this.#parts.settings.set({ memoryPolicy: { ...this.#policy, ...given } });
  }

  /** A nap is what those have that have no rule. */
  async setRule(application: string, action: PolicyAction): Promise<void> {
    const { [application]: _before, ...others } = this.#policy.rules;
    await this.change({ rules: action === 'nap' ? others : { ...others, [application]: action } });
  }

  /** The workload in whose screen the user is, as its window tells; undefined where they have left it. */
  set screen(workload: string | undefined) {
    this.#screen = workload;
    this.look();
  }
  get screen(): string | undefined {
    return this.#screen;
  }

  /** To be called when anything has changed that may bear on it; returns at once. */
  look(): void {
    if (this.#looksAgain) return;
    this.#looksAgain = true;
    this.#next(async () => {
      this.#looksAgain = false;
      await this.#lookNow();
    });
  }

  /** One after the other. */
  #next(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => {
      console.error(`torpor: the policy: ${sentenceOf(error)}`);
    });
  }

  async #listen(client: EngineClient): Promise<void> {
    client.on('pressureRose', () => {
      if (this.#policy.atPressure) this.#next(() => this.#relieve());
    });
    try {
      this.#pressureProblem = (await client.watchPressure()).problem;
    } catch (error) {
      this.#pressureProblem = sentenceOf(error);
    }
  }

  /** What there is now; what has been used is woken on the way. */
  async #known(): Promise<Known[]> {
    const { workloads, windows } = this.#parts;
    const now = Date.now();
    const found = await this.#finder.find({
      workloads: workloads.all(),
      windows: windows?.all() ?? [],
      active: windows?.active,
      screen: this.#screen,
    });
    const keys = new Set(found.map(({ key }) => key));
    for (const key of this.#memories.keys()) if (!keys.has(key)) this.#memories.delete(key);
    const known = found.map((each): Known => {
      const memory = this.#memories.get(each.key) ?? {
        ...{ usedAt: now, notBefore: 0, isAside: false },
        ...{ minimisedAt: undefined, left: undefined },
      };
      this.#memories.set(each.key, memory);
      if (each.isInFront) memory.usedAt = now;
      memory.minimisedAt = each.isMinimised ? (memory.minimisedAt ?? now) : undefined;
      const { usedAt, minimisedAt, notBefore } = memory;
      const action = this.#policy.rules[each.application] ?? 'nap';
      return { ...each, usedAt, minimisedAt, notBefore, action, isNapping: each.isNapping || memory.isAside };
    });
    for (const each of found) {
      if (each.isInFront) this.#used(each, this.#inFront.has(each.key));
    }
    this.#inFront = new Set(found.flatMap(({ key, isInFront }) => (isInFront ? [key] : [])));
    return known;
  }

  /** Its user is in it. As they come to it, it is woken, whoever has put it to a nap. */
  #used(each: Candidate, wasInFront: boolean): void {
    const memory = this.#memories.get(each.key);
    if (memory?.isAside) {
      memory.isAside = false;
      this.#note({ ...entryOf(each, 'woken', 'used'), really: false });
    }
    if (each.isNapping && !wasInFront) this.#wake(each);
  }

  #wake(each: Candidate): void {
    if (this.#waking.has(each.target)) return;
    this.#waking.add(each.target);
    this.#parts.link
      .client()
      .wake(each.target)
      .then(({ wakeMs }) => {
        this.#note({ ...entryOf(each, 'woken', 'used'), tookMs: wakeMs });
        // Whatever it was that has napped, it is told anew as it is now.
        return this.#parts.workloads.refresh();
      })
      .catch(async (error: unknown) => {
        const now = await this.#parts.link.client().get(each.target);
        // Else somebody else has woken it.
        if (now.state === 'napping') this.#parts.tell(noticeOf(error));
      })
      // It has ended, or the engine has.
      .catch(() => {})
      .finally(() => this.#waking.delete(each.target));
  }

  async #lookNow(): Promise<void> {
    const due = (await this.#known()).flatMap((each) => {
      const when = dueFor(each, this.#policy, this.#parts.power?.onBattery ?? false);
      return when === undefined ? [] : [{ each, ...when }];
    });
    due.sort((a, b) => a.at - b.at);
    for (const { each, at, why } of due) if (at <= Date.now()) await this.#putAside(each, why);
    const later = due.filter(({ at }) => at > Date.now())[0];
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (later === undefined) return;
    this.#timer = setTimeout(() => this.look(), Math.min(later.at - Date.now(), longestTimerMs));
    this.#timer.unref();
  }

  /** One at a time: the kernel tells again in two seconds where that was not enough. */
  async #relieve(): Promise<void> {
    for (const each of inTurn(await this.#known(), Date.now(), 'pressure'))
      if (await this.#putAside(each, 'pressure')) return;
  }

  #putAllAside(why: PolicyCause): void {
    this.#next(async () => {
      for (const each of inTurn(await this.#known(), Date.now(), why)) await this.#putAside(each, why);
    });
  }

  /** @returns whether that was done, or would have been */
  async #putAside(each: Known, why: PolicyCause): Promise<boolean> {
    const memory = this.#memories.get(each.key);
    if (memory === undefined || this.#parts.link.state.kind !== 'ready') return false;
    const startedAt = performance.now();
    try {
      const { what, gainBytes } = this.#acts ? await this.#do(each) : await this.#reckon(each);
      const entry = { ...entryOf(each, what, why), really: this.#acts, gainBytes };
      this.#note(this.#acts ? { ...entry, tookMs: performance.now() - startedAt } : entry);
      memory.isAside = !this.#acts;
      memory.left = undefined;
      return true;
    } catch (error) {
      memory.notBefore = Date.now() + againMs;
      const reason = sentenceOf(error);
      if (reason !== memory.left) this.#note({ ...entryOf(each, 'left', why), really: this.#acts, reason });
      memory.left = reason;
      return false;
    }
  }

  /** @throws TorporError with what stands in the way */
  async #do({
    target,
    key,
    action,
    isCapsule,
  }: Known): Promise<Pick<PolicyEntry, 'what'> & { gainBytes: number }> {
    const client = this.#parts.link.client();
    if (action === 'suspend' && isCapsule) {
      const { freedBytes } = await client.suspend(target, { leaveRunning: false });
      return { what: 'suspended', gainBytes: freedBytes };
    }
    const { memoryBefore, memoryAfter } = await client.nap(target, { whileConnected: true });
    await this.#parts.workloads.refresh();
    // Its user may have come to it meanwhile.
    const now = (await this.#known()).find((each) => each.key === key);
    if (now?.isInFront) this.#wake(now);
    return { what: 'napped', gainBytes: Math.max(0, memoryBefore - memoryAfter) };
  }

  /** What it would gain. @throws TorporError with what would stand in the way */
  async #reckon({
    target,
    action,
    isCapsule,
  }: Known): Promise<Pick<PolicyEntry, 'what'> & { gainBytes: number }> {
    const { gainBytes, memoryBytes, findings } = await this.#parts.link.client().planNap(target);
    if (action === 'suspend' && isCapsule) return { what: 'suspended', gainBytes: memoryBytes };
    const blocking = findings.find(({ verdict }) => verdict === 'blocking');
    if (blocking !== undefined) throw new TorporError('blocked', blocking.what, blocking.hint);
    return { what: 'napped', gainBytes };
  }

  #note(entry: PolicyEntry): void {
    this.#parts.history.add(entry);
  }

  /** For its window. */
  async view(): Promise<PolicyView> {
    const { history, windows, power, applications } = this.#parts;
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    const running = await this.#known();
    running.sort((a, b) => a.usedAt - b.usedAt);
    const shown = new Map<string, PolicyApplication>();
    for (const each of running) {
      const { application, title, icon, action, isCapsule, isInFront, isNapping } = each;
      shown.set(application, {
        ...{ application, title, icon, action, isCapsule, isInFront },
        isNapping: isNapping && !this.#memories.get(each.key)?.isAside,
        usedAt: new Date(each.usedAt).toISOString(),
      });
    }
    const installed = await applications.list();
    for (const [application, action] of Object.entries(this.#policy.rules)) {
      if (shown.has(application)) continue;
      const entry = installed.find(({ id }) => id === application);
      shown.set(application, {
        ...{ application, action, isCapsule: false, isInFront: false, isNapping: false },
        title: entry?.name ?? application,
        icon: entry?.icon ?? `/icons/name/${encodeURIComponent(application)}`,
      });
    }
    return {
      applications: [...shown.values()],
      history: history.all().slice(-mostShown).reverse(),
      today: mostAtOnce(history.all(), midnight.toISOString()),
      knowsWindows: windows !== undefined,
      ...(this.#pressureProblem === undefined ? {} : { pressureProblem: this.#pressureProblem }),
      knowsPower: power?.knowsBattery ?? false,
      knowsSleep: power?.knowsSleep ?? false,
    };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

function entryOf(
  { key, application, title }: Candidate,
  what: PolicyEntry['what'],
  why: PolicyEntry['why'],
): PolicyEntry {
  return { at: new Date().toISOString(), what, really: true, key, application, title, why };
}

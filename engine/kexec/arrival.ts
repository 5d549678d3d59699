/**
 * What comes after a jump: the engine that starts next looks whether the canary comes back, and only then restores what was
 * saved. Where it does not, nothing is touched, and every later engine tries again.
 */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import type { Arrival, LeftOut } from '../../api/types.ts';
import type { Logger } from '../log.ts';
import { bootId } from '../process.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { Caller, Registry } from '../workload/registry.ts';
import type { Canary } from './canary.ts';
import { type Departure, type Departures, sessionsOf } from './departure.ts';

export interface ArrivalParts {
  registry: Registry;
  store: Pick<SnapshotStore, 'encryption'>;
  canary: Pick<Canary, 'try' | 'remove'>;
  departures: Departures;
  restoreSession: (caller: Caller, name: string) => Promise<{ left: LeftOut[] }>;
  forgetSession: (caller: Caller, name: string) => Promise<void>;
  log: Logger;
}

const root: Caller = { uid: 0 };

/** Since the kernel started. */
const uptimeMs = () => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;

export class Arrivals {
  readonly #parts: ArrivalParts;

  constructor(parts: ArrivalParts) {
    this.#parts = parts;
  }

  /** Never throws: what went wrong is what is told. */
  async arrive(): Promise<Arrival> {
    const { departures, log } = this.#parts;
    let departure: Departure | undefined;
    try {
      departure = await departures.read();
      if (departure === undefined) return none();
      if (departure.boot === bootId) {
        await this.#goOn(departure);
        return none();
      }
      return await this.#restore(departure);
    } catch (error) {
      log.error({ err: error }, 'what was saved for a jump has not come back');
      const name = departure && sessionsOf(departure).at(-1);
      return {
        ...none(),
        ...(departure === undefined ? {} : { from: departure.from, to: departure.to, took: departure.took }),
        state: 'failed',
        what: `What was saved for the start of another kernel has not come back: ${sentenceOf(error)}`,
        hint: name === undefined ? 'See the log, and `torpor snapshots`.' : restoreByHand(name),
      };
    }
  }

  /** The machine is still where it was. */
  async #goOn(departure: Departure): Promise<void> {
    const { departures, canary, log } = this.#parts;
    // Another engine was asked for the jump, which is still to come, and this one only took its place.
    if (departure.phase === 'jumping') return;
    log.warn({ departure }, 'the engine before ended on the way to another kernel: what was saved goes on');
    const left = departure.session === undefined ? [] : await this.#restoreAll([departure.session]);
    if (left.length > 0) log.warn({ left }, 'not all of it');
    if (departure.earlier.length > 0) return;
    await departures.remove();
    await canary.remove();
  }

  async #restore(departure: Departure): Promise<Arrival> {
    const { canary, departures, registry, store, log } = this.#parts;
    const { from, to, took } = departure;
    const common = { from, to, running: release(), left: [], took };
    const sessions = sessionsOf(departure);
    try {
      await canary.try();
    } catch (error) {
      log.error({ err: error, from, to }, 'this kernel does not restore');
      return {
        ...common,
        state: 'cannot-restore',
        what: `The kernel ${release()} does not restore what was saved under ${from}. ${sentenceOf(error)} Everything that was saved is kept.`,
        hint: `Go back to the kernel before: \`torpor kexec --kernel ${from}\`, or choose it as the machine starts.`,
      };
    }
    if (sessions.length > 0 && store.encryption.state === 'locked')
      return {
        ...common,
        state: 'locked',
        what: 'What was saved for the start of this kernel is encrypted, and comes back as soon as it is unlocked.',
        hint: 'Unlock it: `torpor encryption unlock`.',
      };
    let firstMs: number | undefined;
    registry.onChange(({ status }) => {
      if (status.kind === 'running') firstMs ??= uptimeMs();
    });
    const left = await this.#restoreAll(sessions);
    const allMs = uptimeMs();
    await departures.remove();
    await canary.remove();
    log.info({ from, to, running: release(), left, firstMs, allMs }, 'arrived');
    return {
      ...common,
      state: 'restored',
      what: `The machine went from ${from} to ${release()}${sessions.length === 0 ? '' : ', and what ran was restored'}.`,
      hint: left.length === 0 ? '' : sessions.map(restoreByHand).join(' '),
      left,
      ...(firstMs === undefined ? {} : { firstMs, allMs }),
    };
  }

  /** One that somebody has forgotten, or that came to nothing, is no failure. What is back is no session any more. */
  async #restoreAll(names: readonly string[]): Promise<LeftOut[]> {
    const { restoreSession, forgetSession, log } = this.#parts;
    const all: LeftOut[] = [];
    for (const name of names) {
      try {
        const { left } = await restoreSession(root, name);
        all.push(...left);
        if (left.length === 0) await forgetSession(root, name);
      } catch (error) {
        if (!(error instanceof TorporError && error.code === 'not-found')) throw error;
        log.info({ session: name }, 'there is no such session');
      }
    }
    return all;
  }
}

const restoreByHand = (name: string) => `Try again: \`torpor session restore "${name}"\`.`;

export const none = (): Arrival => ({
  state: 'none',
  from: '',
  to: '',
  running: release(),
  what: 'The machine has not jumped to this kernel.',
  hint: '',
  left: [],
});

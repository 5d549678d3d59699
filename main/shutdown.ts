/**
 * What the engine does by itself as the machine shuts down and starts: what the user wants to be saved then, and what became
 * of a jump to another kernel.
 */
import {
  type Arrival,
  type SaveEvent,
  type SessionPolicyChange,
  type SessionPolicyState,
  saveEvents,
} from '../api/types.ts';
import type { Notice } from './ipc/view.ts';
import type { EngineLink } from './state/engine-link.ts';

export interface ShutdownParts {
  link: EngineLink;
  tell: (notice: Notice) => void;
  changed: () => void;
}

export class Shutdown {
  readonly #parts: ShutdownParts;
  #policy: SessionPolicyState | undefined;
  #arrival: Arrival | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor(parts: ShutdownParts) {
    this.#parts = parts;
    parts.link.on('connected', () => void this.#read());
    // What waited to be unlocked comes back then.
    parts.link.on('workload', () => {
      if (this.#arrival?.state === 'locked') void this.#read();
    });
  }

  /** Undefined until the engine has told it. */
  get policy(): SessionPolicyState | undefined {
    return this.#policy;
  }

  /** Of a jump after which not all came back; until {@link dismissArrival}. */
  get arrival(): Arrival | undefined {
    return this.#arrival;
  }

  async change(change: SessionPolicyChange): Promise<void> {
    this.#policy = await this.#parts.link.client().setSessionPolicy(change);
    this.#parts.changed();
  }

  /** Has it be saved at that or not. Several at once are one after the other, so that none undoes another. */
  async saveAt(event: SaveEvent, on: boolean): Promise<void> {
    const change = this.#changing
      .catch(() => {})
      .then(async () => {
        const { saveAt } = await this.#parts.link.client().sessionPolicy();
        await this.change({
          saveAt: saveEvents.filter((each) => (each === event ? on : saveAt.includes(each))),
        });
      });
    this.#changing = change;
    await change;
  }

  dismissArrival(): void {
    this.#arrival = undefined;
    this.#parts.changed();
  }

  async #read(): Promise<void> {
    const { link, tell, changed } = this.#parts;
    try {
      const client = link.client();
      this.#policy = await client.sessionPolicy();
      changed();
      // It is known only when what was saved for the jump has been restored.
      const arrival = await client.arrival();
      const isNews = arrival.what !== this.#arrival?.what;
      this.#arrival = needsUser(arrival) ? arrival : undefined;
      changed();
      if (this.#arrival !== undefined && isNews)
        tell({ level: 'error', message: arrival.what, hint: arrival.hint });
    } catch {
      // The engine has gone; they are read when it is back.
    }
  }
}

const needsUser = ({ state, left }: Arrival) => (state !== 'none' && state !== 'restored') || left.length > 0;

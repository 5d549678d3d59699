/**
 * Pictures of applications for the windows: of what runs, taken from its screen every few seconds while somebody looks;
 * of snapshots, as the engine took them.
 */
import { createHash } from 'node:crypto';
import { connectRfb } from '../../api/rfb/client.ts';
import { encodePng, scaleDown } from '../../api/rfb/picture.ts';
import type { Workload } from '../../api/types.ts';

const intervalMs = 2500;
const captureLimitMs = 2000;
/** Twice the size of a card, for screens of two device pixels a pixel. */
const widest = 640;
const highest = 400;

interface Live {
  png: Uint8Array;
  version: string;
}

export class LivePictures implements Disposable {
  readonly #workloads: () => readonly Workload[];
  readonly #mayTake: (workload: Workload) => boolean;
  readonly #changed: () => void;
  readonly #pictures = new Map<string, Live>();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> | undefined;
  #taking: { workload: string; done: Promise<unknown> } | undefined;
  readonly #held = new Set<string>();

  /**
   * @param workloads all there are
   * @param mayTake whether one's screen may be connected to now
   * @param changed called whenever a picture is another one
   */
  constructor(
    workloads: () => readonly Workload[],
    mayTake: (workload: Workload) => boolean,
    changed: () => void,
  ) {
    this.#workloads = workloads;
    this.#mayTake = mayTake;
    this.#changed = changed;
  }

  /** Takes pictures from now on, or no longer. */
  set active(active: boolean) {
    if (active === (this.#timer !== undefined)) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (!active) return;
    this.#timer = setInterval(() => this.#next(), intervalMs);
    this.#next();
  }

  /** Changes with the picture; undefined where there is none yet. */
  version(workload: string): string | undefined {
    return this.#pictures.get(workload)?.version;
  }

  png(workload: string): Uint8Array | undefined {
    return this.#pictures.get(workload)?.png;
  }

  #next(): void {
    this.#round ??= this.#takeAll().finally(() => {
      this.#round = undefined;
    });
  }

  /** Takes none of these until that is disposed: a connection to its screen is in the way of a suspend. */
  async hold(workloads: readonly string[]): Promise<Disposable> {
    for (const workload of workloads) this.#held.add(workload);
    if (this.#taking !== undefined && workloads.includes(this.#taking.workload)) await this.#taking.done;
    return {
      [Symbol.dispose]: () => {
        for (const workload of workloads) this.#held.delete(workload);
      },
    };
  }

  /** One after the other: it must never slow down what it shows. */
  async #takeAll(): Promise<void> {
    const ids = this.#workloads().map(({ id }) => id);
    for (const id of this.#pictures.keys()) if (!ids.includes(id)) this.#pictures.delete(id);
    let isChanged = false;
    for (const id of ids) {
      // As it is now: an operation may have begun while others were taken.
      const workload = this.#workloads().find((each) => each.id === id);
      if (workload?.screen === undefined || this.#held.has(id) || !this.#mayTake(workload)) continue;
      const done = capture(workload.screen).catch(() => undefined);
      this.#taking = { workload: id, done };
      const png = await done;
      this.#taking = undefined;
      if (png === undefined) continue;
      const version = createHash('sha256').update(png).digest('hex').slice(0, 16);
      if (this.#pictures.get(id)?.version === version) continue;
      this.#pictures.set(id, { png, version });
      isChanged = true;
    }
    if (isChanged) this.#changed();
  }

  [Symbol.dispose](): void {
    this.active = false;
  }
}

async function capture(socket: string): Promise<Uint8Array> {
  await using screen = await connectRfb(socket, { timeoutMs: captureLimitMs });
  return encodePng(scaleDown(await screen.capture(), widest, highest));
}

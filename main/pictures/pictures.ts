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
  readonly #running: () => readonly Workload[];
  readonly #changed: () => void;
  readonly #pictures = new Map<string, Live>();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> | undefined;

  /** @param changed called whenever a picture is another one. */
  constructor(running: () => readonly Workload[], changed: () => void) {
    this.#running = running;
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

  /** One after the other: it must never slow down what it shows. */
  async #takeAll(): Promise<void> {
    const running = this.#running();
    for (const id of this.#pictures.keys())
      if (!running.some((workload) => workload.id === id)) this.#pictures.delete(id);
    let isChanged = false;
    for (const { id, screen } of running) {
      if (screen === undefined) continue;
      const png = await capture(screen).catch(() => undefined);
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

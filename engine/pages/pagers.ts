/** The workloads whose memory is still being fetched while they run, each with its pager. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../log.ts';
import { Pager, type PagerStatus } from './pager.ts';

const lookAgainMs = 200;

export interface PagersParts {
  runDir: string;
  log: Logger;
  /** How far it is has changed, or it has come to its end. */
  changed: (workload: string) => void;
  /** What a workload needs cannot be read: it waits for that, and will for ever. */
  failed: (workload: string, snapshot: string, what: string) => Promise<void>;
}

interface Following {
  pager: Pager;
  snapshot: string;
  last: PagerStatus;
}

export class Pagers {
  readonly #parts: PagersParts;
  readonly #following = new Map<string, Following>();

  constructor(parts: PagersParts) {
    this.#parts = parts;
  }

  /** Where the pager of a workload is spoken to. */
  controlOf(workload: string): string {
    return join(this.#parts.runDir, 'pagers', `${workload}.sock`);
  }

  /** The pager of a workload of which memory is still missing, and the snapshot that it comes from. */
  of(workload: string): { pager: Pager; snapshot: string } | undefined {
    return this.#following.get(workload);
  }

  /** In bytes; undefined where all memory of it is there. */
  loading(workload: string): { bytesDone: number; bytesTotal: number } | undefined {
    const last = this.#following.get(workload)?.last;
    return last && { bytesDone: last.loadedBytes, bytesTotal: last.totalBytes };
  }

  /** Whether a running workload still needs this snapshot. */
  needs(snapshot: string): boolean {
    return [...this.#following.values()].some((each) => each.snapshot === snapshot);
  }

  /** Takes up what an earlier engine has left behind with a workload that runs on. @param init with whose end it ends. */
  async find(workload: string, snapshot: string, init: number): Promise<void> {
    try {
      const pager = await Pager.find(this.controlOf(workload));
      if (pager === undefined) return;
      this.follow(workload, snapshot, pager);
      // That engine may not have come to say that it runs, or that it runs on.
      await pager.load(init);
    } catch (err) {
      this.#parts.log.error({ err, workload }, 'its pager does not answer');
    }
  }

  /** Ends what an earlier engine has left behind with a workload that does not run. */
  async end(workload: string): Promise<void> {
    await (await Pager.find(this.controlOf(workload)))?.end();
  }

  /** Follows the pager of a running workload until everything is there. */
  follow(workload: string, snapshot: string, pager: Pager): void {
    const last: PagerStatus = { state: 'waiting', loadedBytes: 0, totalBytes: 0 };
    const following = { pager, snapshot, last };
    this.#following.set(workload, following);
    void this.#follow(workload, following)
      .catch((err: unknown) => this.#parts.log.error({ err, workload }, 'following its pager failed'))
      .finally(() => {
        if (this.#following.get(workload) === following) this.#following.delete(workload);
        this.#parts.changed(workload);
      });
  }

  async #follow(workload: string, following: Following): Promise<void> {
    const { log, changed, failed } = this.#parts;
    for (;;) {
      const now = await following.pager.status().catch((err: unknown) => {
        log.error({ err, workload }, 'its pager does not answer');
        return following.last;
      });
      if (now === undefined || now.state === 'complete') break;
      if (now.state === 'failed') {
        log.error({ workload, snapshot: following.snapshot, what: now.what }, 'its memory cannot be read');
        await failed(workload, following.snapshot, now.what ?? 'its memory cannot be read');
        await following.pager.end();
        break;
      }
      const moved = now.loadedBytes !== following.last.loadedBytes;
      following.last = now;
      if (moved) changed(workload);
      await sleep(lookAgainMs, undefined, { ref: false });
    }
    await rm(this.controlOf(workload), { force: true });
    log.info({ workload, snapshot: following.snapshot }, 'its pager has ended');
  }
}

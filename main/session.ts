/** Everything at once: suspending all that runs, and resuming what was suspended together last. */
import type { ResumeChoices } from '../api/types.ts';
import type { SettingsStore } from './desktop-parts.ts';
import type { Notice } from './ipc/view.ts';
import { noticeOf } from './notice.ts';
import type { EngineLink } from './state/engine-link.ts';
import type { Workloads } from './state/workloads.ts';

/** More at once would only wait for the same disk. */
const atOnce = 2;

export class Session {
  readonly #link: EngineLink;
  readonly #workloads: Workloads;
  readonly #settings: SettingsStore;

  constructor(link: EngineLink, workloads: Workloads, settings: SettingsStore) {
    this.#link = link;
    this.#workloads = workloads;
    this.#settings = settings;
  }

  /** How the user wants applications to come back. */
  get choices(): ResumeChoices {
    return this.#settings.value.resumeEagerly ? { eager: true } : {};
  }

  /** One that cannot be suspended runs on and is told of; the others are suspended all the same. */
  async suspendAll(): Promise<{ suspended: number; failed: Notice[] }> {
    await this.#workloads.refresh();
    const running = this.#workloads.all().filter(({ state }) => state === 'running');
    const { done, failed } = await forEach(
      running.map(({ id }) => id),
      (id) => this.#link.client().suspend(id, { leaveRunning: false }),
    );
    if (done.length > 0) this.#settings.lastSession = done;
    return { suspended: done.length, failed };
  }

  /** What the last {@link suspendAll} has suspended and is so still; all that is suspended where there was none. */
  async resumeLast(): Promise<{ resumed: number; failed: Notice[] }> {
    await this.#workloads.refresh();
    const suspended = this.#workloads.all().filter(({ state }) => state === 'suspended');
    const last = suspended.filter(({ id }) => this.#settings.lastSession.includes(id));
    const { done, failed } = await forEach(
      (last.length > 0 ? last : suspended).map(({ id }) => id),
      (id) => this.#link.client().resume(id, { copy: false, ...this.choices }),
    );
    return { resumed: done.length, failed };
  }
}

async function forEach(
  ids: readonly string[],
  act: (id: string) => Promise<unknown>,
): Promise<{ done: string[]; failed: Notice[] }> {
  const done: string[] = [];
  const failed: Notice[] = [];
  const left = [...ids];
  const work = async () => {
    for (let id = left.shift(); id !== undefined; id = left.shift()) {
      try {
        await act(id);
        done.push(id);
      } catch (error) {
        failed.push(noticeOf(error));
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return { done, failed };
}

/**
 * What the app does by itself, as the settings say: making room on the disk, acting when memory runs short, and telling
 * when snapshots that are to be taken at an interval fail again and again.
 */
import { sentenceOf } from '../../api/errors.ts';
import { isAlive, type Workload } from '../../api/types.ts';
import type { SettingsStore } from '../desktop-parts.ts';
import type { Notice } from '../ipc/view.ts';
import { noticeOf } from '../notice.ts';
import type { EngineLink } from '../state/engine-link.ts';
import type { Workloads } from '../state/workloads.ts';
import type { Texts } from '../texts/en.ts';
import { toMakeRoom } from './disk-limit.ts';

/** Turns of an interval that fail in a row before that is told: one may be had by chance, such as a full disk. */
const failuresTold = 3;

export interface AutomationParts {
  link: EngineLink;
  workloads: Workloads;
  settings: SettingsStore;
  texts: () => Texts['automation'];
  tell: (notice: Notice) => void;
}

export class Automation {
  readonly #parts: AutomationParts;
  /** Until it is over nothing is done. */
  paused = false;
  #makingRoom: Promise<void> | undefined;
  /** Ids of workloads whose failing interval was told of. */
  readonly #told = new Set<string>();

  constructor(parts: AutomationParts) {
    this.#parts = parts;
    parts.workloads.on('changed', () => {
      this.#makeRoom();
      this.#tellOfIntervals();
    });
    parts.settings.onChange(() => this.#makeRoom());
  }

  #makeRoom(): void {
    if (this.paused) return;
    this.#makingRoom ??= this.#removeWhatIsTooMuch().finally(() => {
      this.#makingRoom = undefined;
    });
  }

  #tellOfIntervals(): void {
    const { workloads, texts, tell } = this.#parts;
    for (const { id, name, interval } of workloads.all()) {
      const { failures = 0, problem } = interval ?? {};
      if (failures < failuresTold || problem === undefined) this.#told.delete(id);
      else if (!this.#told.has(id)) {
        this.#told.add(id);
        tell(texts().intervalFails(name, failures, problem.what));
      }
    }
  }

  async #removeWhatIsTooMuch(): Promise<void> {
    const { link, workloads, settings, texts, tell } = this.#parts;
    // While something is under way it may be about to need one of them.
    if (link.state.kind !== 'ready' || workloads.isBusy) return;
    const chosen = toMakeRoom(workloads.snapshots, workloads.all(), settings.value);
    if (chosen.length === 0) return;
    try {
      for (const id of chosen) {
        const snapshot = workloads.snapshot(id);
        await link.client().remove(id);
        if (snapshot !== undefined) tell(texts().snapshotRemoved(snapshot.name, snapshot.bytesOnDisk));
      }
    } catch (error) {
      tell(texts().roomNotMade(sentenceOf(error)));
    }
    await workloads.readSnapshots();
  }

  /** To be called when memory has come to be short. */
  async memoryIsShort(): Promise<void> {
    const { link, workloads, settings, texts, tell } = this.#parts;
    const { atLowMemory } = settings.value;
    if (this.paused || atLowMemory === 'nothing' || link.state.kind !== 'ready') return;
    await workloads.refresh();
    const largest = largestRunning(workloads.all());
    if (largest === undefined) return;
    if (atLowMemory === 'ask') {
      tell(texts().memoryIsShort(largest.name, largest.memoryBytes));
      return;
    }
    try {
      const { freedBytes } = await link.client().suspend(largest.id, { leaveRunning: false });
      tell(texts().suspendedForMemory(largest.name, freedBytes));
    } catch (error) {
      tell(noticeOf(error));
    }
  }
}

/** The one whose suspend gives most. */
function largestRunning(workloads: readonly Workload[]): Workload | undefined {
  return workloads.filter(isAlive).sort((a, b) => b.memoryBytes - a.memoryBytes)[0];
}

/**
 * Where the windows of applications are on the desktop, over a suspend: what is open when one is suspended is remembered, by
 * whomever it is suspended, and opened there again when it runs again.
 */
import type { Workload } from '../api/types.ts';
import type { PlacementStore } from './desktop-parts.ts';
import type { Place } from './ipc/view.ts';
import { noticeOf } from './notice.ts';
import type { WindowPlacement } from './shells/placement.ts';
import type { Shell } from './shells/shell.ts';
import { windowOf } from './shells/windows.ts';
import type { EngineLink } from './state/engine-link.ts';

export interface WindowPlacesParts {
  link: EngineLink;
  placements: PlacementStore;
  shell: () => Pick<Shell, 'open' | 'placementOf'> | undefined;
}

export class WindowPlaces {
  readonly #parts: WindowPlacesParts;
  /** As the engine told them last. */
  readonly #states = new Map<string, Workload['state']>();

  constructor(parts: WindowPlacesParts) {
    this.#parts = parts;
    const { link, placements } = parts;
    // What happened while there was no engine was not told.
    link.on('connected', () => this.#states.clear());
    link.on('workload', (workload) => this.#follow(workload));
    link.on('forgotten', (id) => {
      this.#states.delete(id);
      placements.keep(id, undefined);
    });
  }

  /** Where the window of that place is to be; undefined where it is not known, or the place has none of its own. */
  wanted(place: Place): WindowPlacement | undefined {
    return place.kind === 'screen' ? this.#parts.placements.of(place.workload) : undefined;
  }

  #follow({ id, state }: Pick<Workload, 'id' | 'state'>): void {
    const before = this.#states.get(id);
    this.#states.set(id, state);
    const work =
      state === 'suspending' && before !== 'suspending'
        ? this.#remember(id)
        : state === 'running' && before === 'resuming'
          ? this.#reopen(id)
          : undefined;
    // Neither a suspend nor a resume is to fail because of a window.
    work?.catch((error: unknown) => console.error(`torpor: ${noticeOf(error).message}`));
  }

  async #remember(workload: string): Promise<void> {
    const { shell, placements } = this.#parts;
    placements.keep(workload, await shell()?.placementOf(windowOf({ kind: 'screen', workload })));
  }

  async #reopen(workload: string): Promise<void> {
    const place: Place = { kind: 'screen', workload };
    const placement = this.wanted(place);
    const shell = this.#parts.shell();
    if (placement === undefined || shell === undefined) return;
    // The user has moved it since, or has it in front already.
    if ((await shell.placementOf(windowOf(place))) !== undefined) return;
    await shell.open(place, placement);
  }
}

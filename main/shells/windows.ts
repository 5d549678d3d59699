/** Which window a place is shown in: each capsule's screen has one of its own, everything else shares the main one. */
import type { Place } from '../ipc/view.ts';

const screenPrefix = 'screen-';

/** The id of the window, which is also what the app knows it by. */
export function windowOf(place: Place): string {
  return place.kind === 'screen' ? `${screenPrefix}${place.workload}` : 'main';
}

/** The workload whose screen such a window shows, if it shows one. */
export function screenOf(window: string): string | undefined {
  return window.startsWith(screenPrefix) ? window.slice(screenPrefix.length) : undefined;
}

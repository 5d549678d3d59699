/** Which window a place is shown in: each capsule's screen has one of its own, everything else shares the main one. */
import type { Place } from '../ipc/view.ts';

/** The id of the window, which is also what the app knows it by. */
export function windowOf(place: Place): string {
  return place.kind === 'screen' ? `screen-${place.workload}` : 'main';
}

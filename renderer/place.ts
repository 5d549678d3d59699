/** Where this window is, as the hash of its address: `#/home`, `#/snapshots/ID`. */
import { useSyncExternalStore } from 'react';
import type { Place } from '../main/ipc/view.ts';

/** The place that a hash names; home for anything else. */
export function placeOf(hash: string): Place {
  const [kind, id = ''] = hash
    .replace(/^#?\/?/, '')
    .split('/')
    .map(decoded);
  switch (kind) {
    case 'launch':
    case 'sessions':
    case 'settings':
    case 'memory':
    case 'automatic':
      return { kind };
    case 'bundles':
      return id === '' ? { kind } : { kind, workload: id };
    case 'snapshots':
    case 'screen':
      return id === '' ? { kind: 'home' } : { kind, workload: id };
    default:
      return { kind: 'home' };
  }
}

export function hashOf(place: Place): string {
  const workload = 'workload' in place ? place.workload : undefined;
  return workload === undefined ? `#/${place.kind}` : `#/${place.kind}/${encodeURIComponent(workload)}`;
}

export function go(place: Place): void {
  location.hash = hashOf(place);
}

export function usePlace(): Place {
  return placeOf(useSyncExternalStore(listen, () => location.hash));
}

function listen(changed: () => void): () => void {
  addEventListener('hashchange', changed);
  return () => removeEventListener('hashchange', changed);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return '';
  }
}

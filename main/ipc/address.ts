/** A window's place as the hash of its address, and back: `#/home`, `#/screen/1a2b3c4d`. */
import { type Place, placeSchema } from './view.ts';

export function hashOf(place: Place): string {
  const workload = 'workload' in place ? place.workload : undefined;
  return workload === undefined ? `#/${place.kind}` : `#/${place.kind}/${encodeURIComponent(workload)}`;
}

/** @param text with or without `#/` at its beginning. @returns undefined where it names no place */
export function placeOf(text: string): Place | undefined {
  const [kind, workload, ...rest] = text.replace(/^#?\/?/, '').split('/');
  if (rest.length > 0) return undefined;
  try {
    const place = { kind, ...(workload ? { workload: decodeURIComponent(workload) } : {}) };
    return placeSchema.safeParse(place).data;
  } catch {
    return undefined;
  }
}

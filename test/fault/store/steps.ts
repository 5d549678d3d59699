/** What a store goes through in these tests, and what there must be in it then. */
import { createHash } from 'node:crypto';

/** A snapshot that is to be taken: which page has which contents follows from this alone. */
export interface Wanted {
  /** By which the steps call it. */
  name: string;
  workload: string;
  /** Decides all pages. */
  seed: number;
  pages: number;
  /** Every so many pages one is different from what the seed alone makes. */
  changedEvery?: number;
}

/** For the process that works on the store. */
export type Step = { kind: 'open' } | ({ kind: 'suspend' } & Wanted) | { kind: 'remove'; id: string };

export type Answer = { ok: true; id?: string } | { ok: false; error: string; id?: string };

/** By id: what must be there, and what may be; nothing else. */
export interface Expected {
  there: ReadonlyMap<string, Wanted>;
  maybe: ReadonlyMap<string, Wanted>;
}

/** A step, and which operations on the disk it was: those after the first `from`, up to number `to`. */
export interface Done {
  step: Step;
  id: string;
  from: number;
  to: number;
}

/** What is in a store after so many operations: who makes or removes a snapshot decides when it is done. */
export function expectedAfter(count: number, done: readonly Done[]): Expected {
  const there = new Map<string, Wanted>();
  const maybe = new Map<string, Wanted>();
  for (const { step, id, from, to } of done) {
    if (count <= from) break;
    const isOver = count >= to;
    if (step.kind === 'suspend') (isOver ? there : maybe).set(id, step);
    if (step.kind !== 'remove') continue;
    const removed = there.get(step.id);
    there.delete(step.id);
    if (removed !== undefined && !isOver) maybe.set(step.id, removed);
  }
  return { there, maybe };
}

const pageBytes = 4096;

const digests = new Map<string, string>();

/** SHA-256 of {@link memoryOf}. */
export function memoryDigest({ seed, pages, changedEvery }: Wanted): string {
  const key = `${seed} ${pages} ${changedEvery}`;
  const digest =
    digests.get(key) ?? createHash('sha256').update(memoryOf({ seed, pages, changedEvery })).digest('hex');
  digests.set(key, digest);
  return digest;
}

/** Memory as a process has it: some pages of zeros, some that come again, some text, some noise. */
export function memoryOf({
  seed,
  pages,
  changedEvery,
}: Pick<Wanted, 'seed' | 'pages'> & { changedEvery?: number | undefined }): Buffer {
  const memory = Buffer.alloc(pages * pageBytes);
  for (let page = 0; page < pages; page++) {
    const isChanged = changedEvery !== undefined && page % changedEvery === 0;
    const kind = page % 10;
    const slice = memory.subarray(page * pageBytes, (page + 1) * pageBytes);
    if (kind === 0 && !isChanged) continue;
    if (kind < 3) slice.fill(`page ${kind} of ${seed}${isChanged ? ` changed, ${page}` : ''}\n`);
    else noise(slice, seed * 1_000_003 + page + (isChanged ? 500_000 : 0));
  }
  return memory;
}

/** Xorshift: nothing that a codec makes smaller. */
function noise(to: Buffer, seed: number): void {
  let state = (seed * 2_654_435_761 + 1) >>> 0 || 1;
  for (let offset = 0; offset < to.length; offset += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    to.writeUInt32LE(state, offset);
  }
}

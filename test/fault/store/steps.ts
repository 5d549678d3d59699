/** What a store goes through in these tests, and what there must be in it then. */
import { createHash } from 'node:crypto';
import { type Area, imageOf, type Memory, page, zeroPage } from '../../support/store.ts';

/** A snapshot that is to be taken: what memory it is of follows from this alone. */
export interface Wanted {
  /** No other has it. */
  name: string;
  workload: string;
  /** Decides all pages. */
  seed: number;
  pages: number;
  /** Every so many pages one is different from what the seed alone makes. */
  changedEvery?: number;
  codec: 'raw' | 'lz4' | 'zstd';
}

/** For the process that works on the store. */
export type Step =
  | { kind: 'open' }
  | ({ kind: 'suspend' } & Wanted)
  | { kind: 'remove'; id: string }
  | { kind: 'sweep' }
  | { kind: 'recompress' };

export type Answer = { ok: true; id?: string } | { ok: false; error: string };

/** By name: what must be there, and what may be; nothing else. */
export interface Expected {
  there: ReadonlyMap<string, Wanted>;
  maybe: ReadonlyMap<string, Wanted>;
}

/** A step, and which operations on the disk it was: those after the first `from`, up to number `to`. */
export interface Done {
  step: Step;
  /** Of what it has made. */
  id: string;
  /** The name of what it has removed. */
  removed?: string;
  from: number;
  to: number;
}

/** What is in a store after so many operations: who makes or removes a snapshot decides when it is done. */
export function expectedAfter(
  count: number,
  before: ReadonlyMap<string, Wanted>,
  done: readonly Done[],
): Expected {
  const there = new Map(before);
  const maybe = new Map<string, Wanted>();
  for (const { step, removed = '', from, to } of done) {
    if (count <= from) break;
    const isOver = count >= to;
    if (step.kind === 'suspend') (isOver ? there : maybe).set(step.name, step);
    const doomed = there.get(removed);
    there.delete(removed);
    if (doomed !== undefined && !isOver) maybe.set(removed, doomed);
  }
  return { there, maybe };
}

const memories = new Map<string, Memory>();
const keyOf = ({ seed, pages, changedEvery }: Wanted) => `${seed} ${pages} ${changedEvery}`;

/** Of two processes; some of its pages are empty, and some come again. */
export function memoryOf(wanted: Wanted): Memory {
  const memory = memories.get(keyOf(wanted)) ?? makeMemory(wanted);
  memories.set(keyOf(wanted), memory);
  return memory;
}

function makeMemory({ seed, pages, changedEvery }: Wanted): Memory {
  const first = seed * 1_000_000;
  const pageAt = (index: number): Buffer => {
    if (changedEvery !== undefined && index % changedEvery === 0) return page(first + 500_000 + index);
    const kind = index % 10;
    if (kind === 0) return zeroPage;
    return page(first + (kind < 3 ? kind : index));
  };
  const area = (vaddr: bigint, from: number, to: number): Area => ({
    vaddr,
    pages: Array.from({ length: to - from }, (_, index) => pageAt(from + index)),
  });
  const third = Math.floor(pages / 3);
  return new Map([
    [100, [area(0x400000n, 0, third), area(0x7f0000003000n, third, 2 * third)]],
    [101, [area(0x7ffc00001000n, 2 * third, pages)]],
  ]);
}

const digests = new Map<string, string>();

/** SHA-256 of all memory, one process after the other. */
export function memoryDigest(wanted: Wanted): string {
  const known = digests.get(keyOf(wanted));
  if (known !== undefined) return known;
  const hash = createHash('sha256');
  for (const areas of memoryOf(wanted).values()) hash.update(imageOf(areas));
  const digest = hash.digest('hex');
  digests.set(keyOf(wanted), digest);
  return digest;
}

/** What is noted on a snapshot that warm starts begin with: which starts, and what it was made of. */
import { z } from 'zod';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import { inputSchema } from './inputs.ts';

const markSchema = z.object({
  version: z.literal(1),
  /** Of the starts that begin with it (`keyOf`). */
  key: z.string(),
  inputs: z.array(inputSchema),
});
export type Mark = z.infer<typeof markSchema>;

export const markText = (key: string, inputs: Mark['inputs']): string =>
  JSON.stringify({ version: 1, key, inputs } satisfies Mark);

/** Undefined of one with which no start begins, or that cannot be read. Pure. */
export function markOf({
  warm,
}: Pick<Extract<StoredSnapshot, { kind: 'complete' }>, 'warm'>): Mark | undefined {
  if (warm === undefined) return undefined;
  try {
    return markSchema.parse(JSON.parse(warm));
  } catch {
    return undefined;
  }
}

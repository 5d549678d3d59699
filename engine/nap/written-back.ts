/** What `torpor-nap out` says when it has ended. */
import { z } from 'zod';

const schema = z.object({
  /** In bytes; of what it was asked to write back, which may have been somewhere else already. */
  advised: z.number(),
  /** Why it ended before its end: swap is nearly full, or others wait for memory. */
  stopped: z.enum(['swap', 'pressure']).nullable(),
});
export type WrittenBack = z.infer<typeof schema>;

export const parseWrittenBack = (text: string): WrittenBack => schema.parse(JSON.parse(text));

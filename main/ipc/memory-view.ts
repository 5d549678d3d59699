/** What a window shows of the memory that applications have. */
import { z } from 'zod';
import { memoryReportSchema, memoryUseSchema } from '../../api/types.ts';

export const memoryViewSchema = memoryReportSchema.extend({
  applications: z.array(
    memoryUseSchema
      .pick({ target: true, kind: true, naps: true, measured: true })
      .extend(memoryUseSchema.pick({ pss: true, file: true, shared: true, swap: true, zram: true }).shape)
      .extend({ title: z.string() }),
  ),
});
export type MemoryView = z.infer<typeof memoryViewSchema>;
export type MemoryRow = MemoryView['applications'][number];

export const memoryNapSchema = z.object({
  /** What of its memory is free by that, in bytes; absent where it was not done. */
  freedBytes: z.number().optional(),
  /** Sentences of the engine. */
  reasons: z.array(z.string()),
  /** Only its user would miss what it does. */
  mayAnyway: z.boolean(),
});
export type MemoryNap = z.infer<typeof memoryNapSchema>;

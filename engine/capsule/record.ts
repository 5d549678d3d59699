/**
 * What the engine remembers of a workload, on disk, so that it survives the engine's own death. The status is a
 * union: a suspended workload has a snapshot and no process, a running one has a process.
 */
import { z } from 'zod';
import { exitSchema } from '../../api/types.ts';
import { capsuleSpecSchema } from '../../proto/manifest.ts';
import { processIdentitySchema } from '../process.ts';

const statusSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('starting') }),
  z.object({
    kind: z.literal('running'),
    init: processIdentitySchema,
    /** The snapshot it was resumed from or that was last taken of it. */
    snapshot: z.string().optional(),
  }),
  z.object({
    kind: z.literal('suspending'),
    init: processIdentitySchema,
    /** The id under which the snapshot will be committed. */
    stage: z.string(),
    leaveRunning: z.boolean(),
    criu: processIdentitySchema.optional(),
    /** What traces for it, and outlives it until everything is as it was. */
    tracer: processIdentitySchema.optional(),
    /** The snapshot is committed, and what runs of it is only there to be ended. */
    releasing: z.boolean().optional(),
    snapshot: z.string().optional(),
  }),
  z.object({ kind: z.literal('suspended'), snapshot: z.string() }),
  z.object({
    kind: z.literal('resuming'),
    snapshot: z.string(),
    /** A second instance, which is not there at all where the resume fails. */
    copy: z.boolean().optional(),
    criu: processIdentitySchema.optional(),
    /** Known as soon as CRIU has made the process, before it runs. */
    init: processIdentitySchema.optional(),
  }),
  z.object({
    kind: z.literal('ended'),
    at: z.string(),
    exit: exitSchema.optional(),
    note: z.string().optional(),
  }),
]);
export type Status = z.infer<typeof statusSchema>;
export type StatusOf<K extends Status['kind']> = Extract<Status, { kind: K }>;

export const recordSchema = z.object({
  version: z.literal(1),
  id: z.string(),
  name: z.string(),
  startedAt: z.string(),
  capsule: capsuleSpecSchema,
  status: statusSchema,
});
export type WorkloadRecord = z.infer<typeof recordSchema>;

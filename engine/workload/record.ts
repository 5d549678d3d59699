/**
 * What the engine remembers of a workload, on disk, so that it survives the engine's own death. The status is a
 * union: a suspended workload has a snapshot and no process, a running one has a process.
 */
import { z } from 'zod';
import { exitSchema } from '../../api/types.ts';
import { capsuleKindSchema, jobKindSchema, pluginStateSchema } from '../../proto/manifest.ts';
import { displaySchema } from '../nap/desktop.ts';
import { holdSchema } from '../nap/hold.ts';
import { processIdentitySchema } from '../process.ts';

/** Where a job lives after a resume (native/room.c). */
const roomSchema = z.object({
  /** It has pids of its own, beside those of the host. */
  ownPids: z.boolean(),
});
export type Room = z.infer<typeof roomSchema>;

const statusSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('starting') }),
  z.object({
    kind: z.literal('running'),
    /** With whose end it has ended: of a capsule its init, of a job its first process, or its room's init. */
    init: processIdentitySchema,
    /** Of a job that was resumed: what of it is not the job itself. */
    room: roomSchema.optional(),
    /** Of a job that was not: the cgroup that it came from and is put back into. */
    cgroup: z.string().optional(),
    /** The snapshot it was resumed from or that was last taken of it. */
    snapshot: z.string().optional(),
    /** It stands still where it is, or is about to: a nap. */
    nap: z
      .object({
        since: z.string(),
        hold: holdSchema,
        /** Windows that the window manager leaves alone meanwhile, and what undoes that. */
        quiet: z.object({ display: displaySchema, changes: z.array(z.string()) }).optional(),
        /** The connection with the bus that keeps it asleep, where it is to wake with the end of that. */
        keeper: z.string().optional(),
        /** It does; until then an engine that died has it wake. */
        isAsleep: z.boolean(),
      })
      .optional(),
  }),
  z.object({
    kind: z.literal('suspending'),
    init: processIdentitySchema,
    room: roomSchema.optional(),
    cgroup: z.string().optional(),
    /** The id under which the snapshot will be committed. */
    stage: z.string(),
    leaveRunning: z.boolean(),
    /** The set it is suspended with: its snapshot is valid once that session exists. */
    session: z.string().optional(),
    criu: processIdentitySchema.optional(),
    /** What traces for it, and outlives it until everything is as it was. */
    tracer: processIdentitySchema.optional(),
    /** The snapshot is committed, and what runs of it is only there to be ended. */
    releasing: z.boolean().optional(),
    /** Plugins that have been asked to detach it, and are to be told where it runs on. */
    plugins: z.array(pluginStateSchema).optional(),
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
    room: roomSchema.optional(),
    /** Names of plugins that have been asked to establish it, and are to be told where it does not come to run. */
    plugins: z.array(z.string()).optional(),
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

const common = z.object({
  version: z.literal(1),
  id: z.string(),
  name: z.string(),
  startedAt: z.string(),
  status: statusSchema,
  /** It is started for a snapshot alone that warm starts begin with, and shown to nobody. */
  preparing: z.literal(true).optional(),
});

/** Records of the first version name no kind: they are all of capsules. */
const withKind = (record: unknown) =>
  typeof record === 'object' && record !== null && 'capsule' in record
    ? { ...record, kind: 'capsule' }
    : record;

export const recordSchema = z.preprocess(
  withKind,
  z.discriminatedUnion('kind', [common.extend(capsuleKindSchema.shape), common.extend(jobKindSchema.shape)]),
);
export type WorkloadRecord = z.infer<typeof recordSchema>;
export type CapsuleRecord = Extract<WorkloadRecord, { kind: 'capsule' }>;
export type JobRecord = Extract<WorkloadRecord, { kind: 'job' }>;

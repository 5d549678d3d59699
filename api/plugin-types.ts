/** What the engine and its plugins tell each other, as schemas: whatever a plugin answers is checked where it enters. */
import { z } from 'zod';
import { verdicts, workloadKinds } from './types.ts';

/** The version of `io.github.torpor.Plugin1` that this engine speaks. */
export const pluginVersion = 1;
/** Most bytes of a plugin's state. */
export const pluginStateLimit = 64 * 1024;
/** Most findings of one answer, and most characters of each of their texts. */
export const pluginFindingLimit = 50;
export const pluginTextLimit = 1000;

/** A name as buses know them (D-Bus specification, bus names), of at least two elements. */
export const pluginNamePattern = /^(?=.{1,255}$)[A-Za-z_-][\w-]*(\.[A-Za-z_-][\w-]*)+$/;

export const pluginPolicies = ['optional', 'required'] as const;
export type PluginPolicy = (typeof pluginPolicies)[number];

const text = z.string().max(pluginTextLimit);

export const pluginDescriptionSchema = z.object({
  /** The version of the interface that it speaks. */
  version: z.number().int().nonnegative(),
  /** What it is called in sentences. */
  title: text.min(1),
  /** Whether a suspend is given up where it fails (`required`), or goes on and says so. */
  policy: z.enum(pluginPolicies).default('optional'),
  /** Names of plugins that come before it at a resume, and after it at a suspend. */
  after: z.array(z.string().regex(pluginNamePattern)).max(50).default([]),
  /** Its PostResume is called when all is restored and nothing has run yet, and the workload waits for it. */
  beforeItRuns: z.boolean().default(false),
  /** Kinds of workloads that it is for. */
  kinds: z.array(z.enum(workloadKinds)).default([...workloadKinds]),
});
export type PluginDescription = z.infer<typeof pluginDescriptionSchema>;

export const pluginWorkloadSchema = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.enum(workloadKinds),
  command: z.array(z.string()),
  /** Id of the desktop entry it was started from. */
  application: z.string().optional(),
  /** Of a capsule: the folder on the host that is /run/torpor inside. */
  runFolder: z.string().optional(),
  /** Its processes, as the host counts; empty where nothing of it runs yet. */
  pids: z.array(z.number().int()),
  /** The suspend only takes a snapshot of it: Abort comes after it. */
  leaveRunning: z.boolean(),
  /** The resume makes a second instance beside the first. */
  copy: z.boolean(),
  /** The snapshot that it is resumed from. */
  snapshot: z.string().optional(),
});
export type PluginWorkload = z.infer<typeof pluginWorkloadSchema>;

export const pluginFindingSchema = z.object({
  tie: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .default('plugin'),
  verdict: z.enum(verdicts),
  /** One sentence that names the thing. */
  what: text.min(1),
  /** The next step, or what will be different; may be empty. */
  hint: text.default(''),
});
export type PluginFinding = z.infer<typeof pluginFindingSchema>;

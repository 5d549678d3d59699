/**
 * What the user sets of the policy by which applications are put to naps or suspended by themselves, and what a window shows of
 * it.
 */
import { z } from 'zod';

/** What is done with an application that is not used. `suspend` is for those in capsules; others are put to a nap instead. */
export const policyActions = ['never', 'nap', 'suspend'] as const;
export type PolicyAction = (typeof policyActions)[number];

/** `try` only writes down what it would do. So does `off`, but it is not shown as what the user has asked for. */
export const policyModes = ['off', 'try', 'on'] as const;
export type PolicyMode = (typeof policyModes)[number];

/** What has something be done. */
export const policyCauses = ['idle', 'battery', 'minimised', 'pressure', 'lid', 'sleep'] as const;
export type PolicyCause = (typeof policyCauses)[number];

export const longestIdleMinutes = 24 * 60;
const idleMinutes = z.number().int().min(0).max(longestIdleMinutes);

export const memoryPolicySchema = z.object({
  mode: z.enum(policyModes),
  /** Out of focus for so long; 0 is never. */
  idleMinutes,
  /** The same while the machine runs on its battery. */
  batteryIdleMinutes: idleMinutes,
  /** When programs wait for memory. */
  atPressure: z.boolean(),
  /** All of its windows are minimised. */
  onMinimise: z.boolean(),
  atLidClose: z.boolean(),
  beforeSleep: z.boolean(),
  /** By application ({@link policyApplicationSchema}); a nap for those that are not named. */
  rules: z.record(z.string().min(1).max(300), z.enum(policyActions)),
});
export type MemoryPolicy = z.infer<typeof memoryPolicySchema>;

/** Nothing happens by itself until the user wants it. */
export const defaultMemoryPolicy: MemoryPolicy = {
  mode: 'off',
  idleMinutes: 20,
  batteryIdleMinutes: 10,
  atPressure: true,
  onMinimise: false,
  atLidClose: false,
  beforeSleep: false,
  rules: {},
};

export const policyEntrySchema = z.object({
  /** ISO 8601. */
  at: z.string(),
  /** `left`: it could not be done, and `reason` says why. */
  what: z.enum(['napped', 'suspended', 'woken', 'left']),
  /** It was done, and not only written down. */
  really: z.boolean(),
  /** Which one, while it runs. */
  key: z.string(),
  /** As rules name it, and as it is shown. */
  application: z.string(),
  title: z.string(),
  why: z.enum([...policyCauses, 'used']),
  /** Memory that was free by it, or would have been, in bytes. */
  gainBytes: z.number().optional(),
  /** In milliseconds. */
  tookMs: z.number().optional(),
  reason: z.string().optional(),
});
export type PolicyEntry = z.infer<typeof policyEntrySchema>;

export const policyApplicationSchema = z.object({
  /** As rules name it: the id of its desktop entry, or else the name of its program. */
  application: z.string(),
  title: z.string(),
  /** Address of its icon on this origin. */
  icon: z.string(),
  action: z.enum(policyActions),
  /** It is in a capsule, and can be suspended. */
  isCapsule: z.boolean(),
  isInFront: z.boolean(),
  isNapping: z.boolean(),
  /** When its user was in it last, as far as the app has seen it, ISO 8601; absent where it does not run. */
  usedAt: z.string().optional(),
});
export type PolicyApplication = z.infer<typeof policyApplicationSchema>;

export const policyViewSchema = z.object({
  /** Those that run, the least recently used first, and those that have a rule. */
  applications: z.array(policyApplicationSchema),
  /** The newest first. */
  history: z.array(policyEntrySchema),
  /** What would have been free today at once, at most. */
  today: z.object({ gainBytes: z.number(), at: z.string().optional(), applications: z.number().int() }),
  /** Whether the desktop tells which window the user is in: X11 does. */
  knowsWindows: z.boolean(),
  /** Why pressure is not told. */
  pressureProblem: z.string().optional(),
  /** Whether the machine tells of its battery and its lid, and of its sleep. */
  knowsPower: z.boolean(),
  knowsSleep: z.boolean(),
});
export type PolicyView = z.infer<typeof policyViewSchema>;

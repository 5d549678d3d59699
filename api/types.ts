/**
 * What the engine says about workloads, snapshots and findings: the types that every interface shares, as
 * schemas, because everything that crosses the bus is checked where it enters.
 */
import { z } from 'zod';

export const workloadKinds = ['capsule', 'job'] as const;
export const workloadStates = ['running', 'napping', 'suspending', 'suspended', 'resuming', 'ended'] as const;

/** Whether it has processes that would be lost with the machine, standing still or not. */
export const isAlive = ({ state }: { state: (typeof workloadStates)[number] }): boolean =>
  state === 'running' || state === 'napping';

/** How a workload's main process ended. */
export const exitSchema = z.union([
  z.object({ code: z.number().int() }),
  z.object({ signal: z.number().int() }),
]);
export type Exit = z.infer<typeof exitSchema>;

/** A sentence by language. */
export const textSchema = z.object({ en: z.string(), de: z.string() });
export type Text = z.infer<typeof textSchema>;

/** How much of an amount of bytes is done. */
export const amountSchema = z.object({ bytesDone: z.number().int(), bytesTotal: z.number().int() });

/** In seconds. */
export const intervalLimits = { shortest: 1, longest: 7 * 24 * 3600 } as const;
export const mostKeptLast = 1000;
/** Where the user does not say how many. */
export const usualKeepLast = 3;

/** Snapshots that the engine takes by itself of what runs on. */
export const intervalSchema = z.object({
  everySeconds: z.number().int().min(intervalLimits.shortest).max(intervalLimits.longest),
  /** As many are kept; of those that were taken at an interval the older ones are removed. */
  keepLast: z.number().int().min(1).max(mostKeptLast),
});
export type Interval = z.infer<typeof intervalSchema>;

/** An interval, and how it goes. */
export const intervalStateSchema = intervalSchema.extend({
  /** When the next one is due, ISO 8601, or was where it is being taken; absent while it waits for the workload to run. */
  nextAt: z.string().optional(),
  /** Turns that have failed since the last one that did not. */
  failures: z.number().int(),
  /** Why the last turn was skipped or has failed; absent where it was not and has not. */
  problem: z.object({ at: z.string(), what: z.string() }).optional(),
});
export type IntervalState = z.infer<typeof intervalStateSchema>;

export const warmStartSchema = z.object({
  /** Whether it began with a snapshot. */
  start: z.enum(['warm', 'cold']),
  snapshot: z.string().optional(),
  /** The snapshot was made for this start. */
  prepared: z.boolean(),
  /** Why it was made, or why the start was a cold one all the same. */
  why: textSchema.optional(),
});
export type WarmStart = z.infer<typeof warmStartSchema>;

export const workloadSchema = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.enum(workloadKinds),
  state: z.enum(workloadStates),
  user: z.string(),
  /** Host process ids, the capsule's init first; empty unless it runs. */
  pids: z.array(z.number().int()),
  /** Proportional share of memory (PSS) of all its processes, in bytes; 0 unless it runs. */
  memoryBytes: z.number().int(),
  /** The snapshot it was last suspended to or resumed from. */
  snapshot: z.string().optional(),
  /** How much of its memory is there, of one that runs while it is still being fetched; absent otherwise. */
  loading: amountSchema.optional(),
  /** Absent where no snapshots are taken of it at an interval. */
  interval: intervalStateSchema.optional(),
  command: z.array(z.string()),
  /** The folder it was started in. */
  cwd: z.string().optional(),
  /** Id of the desktop entry it was started from. */
  application: z.string().optional(),
  /** When it was started, ISO 8601. */
  startedAt: z.string(),
  /** Path of its RFB socket, which only its owner can open; absent unless it runs. */
  screen: z.string().optional(),
  /** Path of the socket of its session bus, which only its owner can open; absent unless it is a capsule that runs. */
  bus: z.string().optional(),
  /** Path of the socket of its terminal, which only its owner can open; absent unless it is a job that runs in one of its own. */
  terminal: z.string().optional(),
  exit: exitSchema.optional(),
  /** What ended it, where that was not the application's own doing. */
  note: z.string().optional(),
  /** Names of the application profiles that it was started with. */
  profiles: z.array(z.string()).optional(),
  /** What there is to tell of its start; only in the answer to that. */
  told: z.array(textSchema).optional(),
  /** How its start went, where a warm one was asked for; only in the answer to that. */
  warm: warmStartSchema.optional(),
});
export type Workload = z.infer<typeof workloadSchema>;

export const verdicts = ['handled', 'degraded', 'blocking'] as const;

export const findingSchema = z.object({
  /** The kind of tie, such as `unix-socket`. */
  tie: z.string(),
  verdict: z.enum(verdicts),
  /** Who takes care of it: `engine`, `criu`, a plugin's name, or empty. */
  by: z.string(),
  /** The process that has it, as the host counts, where it is one process's. */
  pid: z.number().int().optional(),
  /** One sentence that names the process and the thing. */
  what: z.string(),
  /** The next step, or what will be different; may be empty. */
  hint: z.string(),
});
export type Finding = z.infer<typeof findingSchema>;

export const processSchema = z.object({
  pid: z.number().int(),
  ppid: z.number().int(),
  name: z.string(),
  command: z.array(z.string()),
  uid: z.number().int(),
  memoryBytes: z.number().int(),
  openFiles: z.number().int(),
});

export const inspectionSchema = z.object({
  target: z.string(),
  processes: z.array(processSchema),
  memoryBytes: z.number().int(),
  openFiles: z.array(z.string()),
  sockets: z.array(z.string()),
  findings: z.array(findingSchema),
});
export type Inspection = z.infer<typeof inspectionSchema>;

/** What a nap of a workload, or of the process tree below a pid, would be. All figures in bytes. */
export const napPlanSchema = z.object({
  name: z.string(),
  /** Of all that would stand still, as the host counts. */
  pids: z.array(z.number().int()),
  /** Proportional share of memory. */
  memoryBytes: z.number().int(),
  /** What would be free of it. */
  gainBytes: z.number().int(),
  /** Of that, what is of files, and would be read from disk again. */
  fileBytes: z.number().int(),
  /** What would go to swap, and what would find no room there and stay. */
  swapBytes: z.number().int(),
  staysBytes: z.number().int(),
  swapTotalBytes: z.number().int(),
  swapFreeBytes: z.number().int(),
  /** How many times smaller memory is in zram; absent where no swap is zram. */
  zramRatio: z.number().optional(),
  findings: z.array(findingSchema),
  /** All that stands in the way is what its user alone would miss: `anyway` passes over it. */
  mayAnyway: z.boolean(),
});
export type NapPlan = z.infer<typeof napPlanSchema>;

/** What was measured on this machine, of programs of one name: medians of the last few times. */
export const measuredSchema = z.object({
  /** PSS that was freed and what the snapshot takes on disk, in bytes; until it was durable, in milliseconds. */
  suspend: z.object({ gainBytes: z.number().int(), diskBytes: z.number().int(), ms: z.number() }).optional(),
  /** Until it ran, in milliseconds. */
  resume: z.object({ ms: z.number() }).optional(),
  /** Memory that the machine had more of, in bytes; how long that took, in milliseconds. */
  nap: z.object({ gainBytes: z.number().int(), ms: z.number() }).optional(),
  wake: z.object({ ms: z.number() }).optional(),
});
export type Measured = z.infer<typeof measuredSchema>;

/** What an application has of memory: all its processes together, in bytes. */
export const memoryUseSchema = z.object({
  /** As `nap` takes it: the id of a workload, or the pid of the first process. */
  target: z.string(),
  name: z.string(),
  /** `process` for what Torpor did not start. */
  kind: z.enum([...workloadKinds, 'process']),
  user: z.string(),
  command: z.array(z.string()),
  pids: z.array(z.number().int()),
  naps: z.boolean(),
  /** Proportional share of what is in memory. */
  pss: z.number().int(),
  /** Of that, what is of files. */
  file: z.number().int(),
  /** Of that, shared memory. */
  shared: z.number().int(),
  /** Proportional share of what is in swap. */
  swap: z.number().int(),
  /** Of that, what is likely in zram, and so in memory still: as much of it as of all that is in swap. */
  zram: z.number().int(),
  measured: measuredSchema,
});
export type MemoryUse = z.infer<typeof memoryUseSchema>;

export const memoryReportSchema = z.object({
  /** The one with the most first. */
  applications: z.array(memoryUseSchema),
  /** In bytes. */
  totalBytes: z.number().int(),
  availableBytes: z.number().int(),
  swapTotalBytes: z.number().int(),
  swapFreeBytes: z.number().int(),
  /** How many times smaller what is in zram is there; absent where it has too little to tell. */
  zramRatio: z.number().optional(),
});
export type MemoryReport = z.infer<typeof memoryReportSchema>;

export const napOptionsSchema = z.object({
  /** Also where only its user would miss what it does. */
  anyway: z.boolean().optional(),
  /** It is woken when who asks for it leaves the bus: nobody would know any more when its user wants it. */
  whileConnected: z.boolean().optional(),
});
export type NapOptions = z.infer<typeof napOptionsSchema>;

export const napResultSchema = z.object({
  workload: workloadSchema,
  plan: napPlanSchema,
  /** Proportional share of memory before and after, and what was available on the machine, in bytes. */
  memoryBefore: z.number().int(),
  memoryAfter: z.number().int(),
  availableBefore: z.number().int(),
  availableAfter: z.number().int(),
  /** Why not all was written back: swap is nearly full, or others wait for memory. */
  stopped: z.enum(['swap', 'pressure']).optional(),
  /** From the request to stand still until all of it did, in milliseconds. */
  holdMs: z.number(),
});
export type NapResult = z.infer<typeof napResultSchema>;

export const pressureWatchSchema = z.object({
  /** Why it is never told, where that is so. */
  problem: z.string().optional(),
});
export type PressureWatch = z.infer<typeof pressureWatchSchema>;

/** How long programs have waited for memory (Linux, Documentation/accounting/psi.rst), in percent of the last ten seconds. */
export const pressureSchema = z.object({
  /** At least one of them. */
  some: z.number(),
  /** All of them at once. */
  full: z.number(),
});
export type Pressure = z.infer<typeof pressureSchema>;

export const wakeResultSchema = z.object({
  workload: workloadSchema,
  /** Until all of it could run again, in milliseconds. */
  wakeMs: z.number(),
});
export type WakeResult = z.infer<typeof wakeResultSchema>;

export const snapshotSchema = z.object({
  id: z.string(),
  workload: z.string(),
  name: z.string(),
  takenAt: z.string(),
  bytesOnDisk: z.number().int(),
  /** PSS of the workload just before the checkpoint, in bytes. */
  memoryBytes: z.number().int(),
  /** How long the application stood still until it ran on or was ended, in milliseconds. */
  standstillMs: z.number(),
  /** From the request until the snapshot was durable on disk, in milliseconds. */
  durableMs: z.number(),
  user: z.string(),
  command: z.array(z.string()),
  /** Id of the desktop entry that the workload was started from. */
  application: z.string().optional(),
  /** It is not removed before that is taken back. */
  kept: z.boolean(),
  /** It was taken at an interval, and goes when enough later ones have been taken so. */
  atInterval: z.boolean().optional(),
  /** Warm starts begin with it; its workload is none of its user's. */
  warm: z.boolean().optional(),
  /** When it was last resumed from, ISO 8601. */
  usedAt: z.string().optional(),
  /** Why it cannot be used, where that is so. */
  damaged: z.string().optional(),
});
export type Snapshot = z.infer<typeof snapshotSchema>;

export const runSpecSchema = z.object({
  command: z.array(z.string()).min(1),
  name: z.string().optional(),
  /** Another root folder than the host's. */
  root: z.string().optional(),
  user: z.string().optional(),
  /** What `--env` gave: wins over everything. */
  env: z.record(z.string(), z.string()),
  /** The caller's own environment, of which the engine takes what an application needs. */
  callerEnv: z.record(z.string(), z.string()),
  cwd: z.string(),
  /** Id of the desktop entry it is started from, such as `org.gnome.Calculator.desktop`. */
  application: z.string().optional(),
  /** Size of its screen at the start, `WIDTHxHEIGHT` in pixels. */
  geometry: z.string().optional(),
  /** What the user agrees to, by the ids of {@link consentSchema}. */
  agree: z.array(z.string()).optional(),
  /** Start it to do without what a CPU has beyond x86-64-v2, so that it can go to a machine with another one. */
  cpuBaseline: z.boolean().optional(),
  /** Start it without application profiles. */
  withoutProfiles: z.boolean().optional(),
  /** Begin with a snapshot that was taken just after it was ready, which is made where there is none. */
  warm: z.boolean().optional(),
});
export type RunSpec = z.infer<typeof runSpecSchema>;

/** What an application gives up in a capsule, which its user is asked for once. */
export const consentSchema = z.object({
  id: z.string(),
  /** The profile that asks. */
  profile: z.string(),
  /** Of the applications that the profile is for. */
  title: z.string(),
  /** The program, or desktop entry, that it is asked for. */
  program: z.string(),
  what: textSchema,
});
export type Consent = z.infer<typeof consentSchema>;

/** A command that profiles are looked up for; an empty one for the list of all alone. */
export const profileQuerySchema = z.object({
  command: z.array(z.string()),
  cwd: z.string(),
  env: z.record(z.string(), z.string()),
  callerEnv: z.record(z.string(), z.string()),
  application: z.string().optional(),
  user: z.string().optional(),
});
export type ProfileQuery = z.infer<typeof profileQuerySchema>;

export const profileOrigins = ['torpor', 'machine', 'user'] as const;

export const profileReportSchema = z.object({
  profiles: z.array(
    z.object({ name: z.string(), title: z.string(), origin: z.enum(profileOrigins), file: z.string() }),
  ),
  /** What is wrong with the files of profiles that are left out. */
  problems: z.array(
    z.object({
      file: z.string(),
      origin: z.enum(profileOrigins),
      line: z.number().int(),
      column: z.number().int(),
      expected: z.string(),
      found: z.string(),
      /** All of it, for people. */
      sentence: z.string(),
    }),
  ),
  /** Of the command that was asked for. */
  start: z
    .object({
      /** The programs that it leads to. */
      programs: z.array(z.string()),
      matches: z.array(z.object({ profile: z.string(), why: z.string() })),
      command: z.array(z.string()),
      environment: z.record(z.string(), z.string()),
      preloads: z.array(z.string()),
      consents: z.array(consentSchema.extend({ given: z.boolean() })),
      notes: z.array(textSchema),
      findings: z.array(findingSchema),
    })
    .optional(),
});
export type ProfileReport = z.infer<typeof profileReportSchema>;

/** What becomes of unix sockets whose other end is outside: nothing is suspended, or how they come back. */
export const socketChoices = ['block', 'reconnect', 'hang-up'] as const;
export type SocketChoice = (typeof socketChoices)[number];

/** What becomes of TCP connections: they go on after the resume where that is possible, or are closed. */
export const connectionChoices = ['keep', 'close'] as const;
export type ConnectionChoice = (typeof connectionChoices)[number];

export const suspendOptionsSchema = z.object({
  leaveRunning: z.boolean(),
  /** Where it is not given: what is usual for known services, `block` for others. */
  externalSockets: z.enum(socketChoices).optional(),
  /** Where it is not given: `keep` for a job, `close` for a capsule. */
  connections: z.enum(connectionChoices).optional(),
});
export type SuspendOptions = z.infer<typeof suspendOptionsSchema>;

export const suspendResultSchema = z.object({
  workload: workloadSchema,
  snapshot: snapshotSchema,
  findings: z.array(findingSchema),
  /** PSS that was held before and is free now, in bytes; 0 with `leaveRunning`. */
  freedBytes: z.number().int(),
  /** How long it waited for plugins, in milliseconds. */
  pluginsMs: z.number(),
});
export type SuspendResult = z.infer<typeof suspendResultSchema>;

/** What time does to what is resumed: for it none has passed, or its clocks and timers have gone on as if it had run. */
export const clockChoices = ['keep', 'advance'] as const;
export type ClockChoice = (typeof clockChoices)[number];

/** For a network, in seconds. */
export const longestWait = 3600;

/** What may become of connections to a message bus outside that is not there at the resume. */
export const lostSocketChoices = ['hang-up'] as const;

/** How something comes back, of one or of several. */
export const resumeChoicesSchema = z.object({
  /** `keep` where it is not given. */
  clock: z.enum(clockChoices).optional(),
  /** How long to wait for a network before it runs, in seconds; as its profile says where it is not given. */
  waitNetwork: z.number().int().min(0).max(longestWait).optional(),
  /** Where a message bus outside cannot be had it finds its connection closed; nothing is resumed where it is not given. */
  externalSockets: z.enum(lostSocketChoices).optional(),
  /** All its memory is there before it runs; otherwise, where the kernel can, it is fetched while it runs. */
  eager: z.boolean().optional(),
});
export type ResumeChoices = z.infer<typeof resumeChoicesSchema>;

export const resumeOptionsSchema = resumeChoicesSchema.extend({ copy: z.boolean() });
export type ResumeOptions = z.infer<typeof resumeOptionsSchema>;

export const resumeResultSchema = z.object({
  workload: workloadSchema,
  findings: z.array(findingSchema),
  /** From the request until the application ran, in milliseconds. */
  resumeMs: z.number(),
  /** Of that, what CRIU took, in milliseconds. */
  criuMs: z.number(),
  /** And what plugins took, in milliseconds. */
  pluginsMs: z.number(),
});
export type ResumeResult = z.infer<typeof resumeResultSchema>;

/** What had a session saved: its user, the machine's shutdown of whichever kind, or a battery that is nearly empty. */
export const sessionReasons = ['user', 'reboot', 'kexec', 'power-off', 'shutdown', 'low-battery'] as const;
export type SessionReason = (typeof sessionReasons)[number];
/** What the machine does of its own or at anybody's word, and not what a user does with a session. */
export type PowerEvent = Exclude<SessionReason, 'user'>;

/** What a user can choose to be saved at; a shutdown of which nobody says what kind it is counts as any of the first three. */
export const saveEvents = ['reboot', 'kexec', 'power-off', 'low-battery'] as const;
export type SaveEvent = (typeof saveEvents)[number];

/** What happens to a user's workloads by itself. */
export const sessionPolicySchema = z.object({
  saveAt: z.array(z.enum(saveEvents)),
  /** Jobs are saved, too, and not only what runs in capsules. */
  jobs: z.boolean(),
  /** What was saved so is resumed when the user logs in. */
  restoreAtLogin: z.boolean(),
});
export type SessionPolicy = z.infer<typeof sessionPolicySchema>;

/** A policy, as it is now. */
export const sessionPolicyStateSchema = sessionPolicySchema.extend({
  /** Whether the engine is told of shutdowns: where it is not, nothing is saved by itself, whatever was chosen. */
  isTold: z.boolean(),
});
export type SessionPolicyState = z.infer<typeof sessionPolicyStateSchema>;

/** What is not given stays as it is. */
export const sessionPolicyChangeSchema = sessionPolicySchema.partial().extend({
  /** For all users who have not chosen themselves; for root. */
  machine: z.boolean().optional(),
});
export type SessionPolicyChange = z.infer<typeof sessionPolicyChangeSchema>;

/** In characters. */
export const longestSessionName = 64;

/** How a session comes back. */
export const sessionRestoreOptionsSchema = resumeChoicesSchema.extend({
  /** Only what is the caller's own, also where the caller could restore all of it. */
  own: z.boolean().optional(),
});
export type SessionRestoreOptions = z.infer<typeof sessionRestoreOptionsSchema>;

export const sessionSaveOptionsSchema = suspendOptionsSchema.extend({
  /** What cannot be suspended runs on, and the others are suspended all the same. */
  partial: z.boolean().optional(),
  /** A session that has the name, and is still suspended, loses it. */
  replace: z.boolean().optional(),
  /** For root; `user` where it is not given. */
  reason: z.enum(sessionReasons).optional(),
});
export type SessionSaveOptions = z.infer<typeof sessionSaveOptionsSchema>;

export const sessionMemberSchema = z.object({
  workload: z.string(),
  name: z.string(),
  user: z.string(),
  snapshot: z.string(),
  /**
   * `ready`: a restore of the session resumes it. `running`: it runs. `later`: it was suspended anew since, and is left to its later
   * snapshot. `ended`: it was resumed, and has ended since; only a restore that is asked for brings that state back. `gone`: its
   * snapshot was removed.
   */
  state: z.enum(['ready', 'running', 'later', 'ended', 'gone']),
  /** When its user last typed or pointed at something in it, ISO 8601, as far as that is known. */
  lastUsedAt: z.string().optional(),
});
export type SessionMember = z.infer<typeof sessionMemberSchema>;

export const sessionSchema = z.object({
  id: z.string(),
  name: z.string(),
  /** ISO 8601. */
  savedAt: z.string(),
  reason: z.enum(sessionReasons),
  /** What its snapshots keep of memory, in bytes. */
  memoryBytes: z.number().int(),
  /** Those the caller may see, in the order in which a restore brings them back: the last used one first. */
  members: z.array(sessionMemberSchema),
});
export type Session = z.infer<typeof sessionSchema>;

/** A workload that a session was saved or restored without, and why. */
export const leftOutSchema = z.object({
  workload: z.string(),
  name: z.string(),
  what: z.string(),
  hint: z.string(),
  findings: z.array(findingSchema),
});
export type LeftOut = z.infer<typeof leftOutSchema>;

export const sessionSaveResultSchema = z.object({
  session: sessionSchema,
  suspended: z.array(suspendResultSchema),
  left: z.array(leftOutSchema),
});
export type SessionSaveResult = z.infer<typeof sessionSaveResultSchema>;

export const sessionRestoreResultSchema = z.object({
  session: sessionSchema,
  /** In the order in which they came back. */
  resumed: z.array(resumeResultSchema),
  left: z.array(leftOutSchema),
});
export type SessionRestoreResult = z.infer<typeof sessionRestoreResultSchema>;

export const kexecOptionsSchema = z.object({
  /** The newest one where it is not given. */
  kernel: z.string().optional(),
  /** Goes although not all can be saved: what cannot ends with the machine. */
  partial: z.boolean().optional(),
});
export type KexecOptions = z.infer<typeof kexecOptionsSchema>;

export const kernelSchema = z.object({
  version: z.string(),
  image: z.string(),
  isRunning: z.boolean(),
  /** Whether what is suspended could be resumed under it, as far as its files tell. */
  canRestore: z.boolean(),
});

/** What a jump to another kernel would be, and what stands in its way. */
export const kexecPlanSchema = z.object({
  /** The kernel it would go to. */
  kernel: z.string(),
  image: z.string(),
  initrd: z.string().optional(),
  commandLine: z.string(),
  /** All that are installed, the newest first. */
  kernels: z.array(kernelSchema),
  /** Ids and names of what would be saved. */
  workloads: z.array(z.object({ id: z.string(), name: z.string() })),
  bytesNeeded: z.number().int(),
  bytesFree: z.number().int(),
  findings: z.array(findingSchema),
});
export type KexecPlan = z.infer<typeof kexecPlanSchema>;

/** How long what comes before a jump took, in milliseconds: the checks, loading the kernel, saving. */
export const kexecTimesSchema = z.object({ checkMs: z.number(), loadMs: z.number(), saveMs: z.number() });
export type KexecTimes = z.infer<typeof kexecTimesSchema>;

/** The machine is about to jump when this is told. */
export const kexecResultSchema = kexecTimesSchema.extend({
  plan: kexecPlanSchema,
  /** Absent where nothing ran. */
  session: sessionSchema.optional(),
  left: z.array(leftOutSchema),
});
export type KexecResult = z.infer<typeof kexecResultSchema>;

/** What became of the last jump. */
export const arrivalSchema = z.object({
  /**
   * `none`: there was none. `restored`: what was saved for it has come back, but for what is left. `locked`: the
   * encrypted snapshots wait to be unlocked. `cannot-restore`: the kernel that runs now does not restore; everything is kept.
   * `failed`: the restore itself could not be done; everything is kept.
   */
  state: z.enum(['none', 'restored', 'locked', 'cannot-restore', 'failed']),
  from: z.string(),
  to: z.string(),
  /** The kernel that runs now. */
  running: z.string(),
  what: z.string(),
  hint: z.string(),
  left: z.array(leftOutSchema),
  /** Absent where there was no jump. */
  took: kexecTimesSchema.optional(),
  /** From the start of the kernel until the first workload ran again and until all did, in milliseconds. */
  firstMs: z.number().optional(),
  allMs: z.number().optional(),
});
export type Arrival = z.infer<typeof arrivalSchema>;

/** How a bundle lies on its medium; `auto`: as what is there already, else a file where the name ends with `.torpor`. */
export const bundleForms = ['auto', 'file', 'folder'] as const;
export type BundleForm = (typeof bundleForms)[number];

/** Of a bundle, in characters. */
export const shortestPassphrase = 8;
/** The details of an error that is about the passphrase and not about the bundle. */
export const aboutPassphrase = { about: 'passphrase' } as const;

export const exportOptionsSchema = z.object({
  /** Absolute; a file, or a folder of its own. */
  path: z.string().startsWith('/'),
  /** The first one opens a bundle that is there, or a new one from now on; so do the others then. */
  passphrases: z.array(z.string().min(1)).min(1),
  /** They have been made by a machine: nobody can guess them, so that guessing need not be made slow. */
  isRandom: z.boolean().optional(),
  form: z.enum(bundleForms),
  /** Torpor itself goes with it, into its folder, for machines that have none. */
  withEngine: z.boolean().optional(),
  /** What runs is not suspended for it but goes on, and the bundle has it as it is now. */
  leaveRunning: z.boolean(),
  /** Files and folders of the user's that go with it, beside those that are open: paths as the application sees them. */
  data: z.array(z.string().startsWith('/')),
});
export type ExportOptions = z.infer<typeof exportOptionsSchema>;

export const exportResultSchema = z.object({
  path: z.string(),
  form: z.enum(['file', 'folder']),
  /** How often it has been written, this time included. */
  generation: z.number().int(),
  workloads: z.array(workloadSchema),
  /** Of the whole bundle, on its medium. */
  bytes: z.number().int(),
  /** What had to be written now. */
  bytesWritten: z.number().int(),
  /** PSS of what is in it. */
  memoryBytes: z.number().int(),
  /** What is to be known of it: files that could not go with it, and what its workloads' suspend found. */
  findings: z.array(findingSchema),
  tookMs: z.number(),
});
export type ExportResult = z.infer<typeof exportResultSchema>;

export const importOptionsSchema = z.object({
  /** Absolute. */
  path: z.string().startsWith('/'),
  passphrase: z.string(),
  /** By name or number: whose it is from now on. For root alone; the caller's where it is not given. */
  user: z.string().optional(),
});
export type ImportOptions = z.infer<typeof importOptionsSchema>;

/** What became of a document that came home with a bundle. */
export const documentOutcomes = ['written', 'same', 'beside', 'kept'] as const;

export const importResultSchema = z.object({
  path: z.string(),
  generation: z.number().int(),
  /** Suspended, each in a snapshot of its own. */
  workloads: z.array(workloadSchema),
  /** Whether it was made of workloads of this machine, and has brought them home. */
  isHome: z.boolean(),
  /** At home: files that were changed on the other machine. */
  documents: z.array(
    z.object({
      path: z.string(),
      /**
       * `written` in place of the one that nobody had changed here; `same` as it is here; `beside` the one that was changed
       * here too; `kept` as it was here, since it could not be written.
       */
      outcome: z.enum(documentOutcomes),
      /** Where it was put, if not at its path. */
      to: z.string().optional(),
    }),
  ),
  findings: z.array(findingSchema),
  tookMs: z.number(),
});
export type ImportResult = z.infer<typeof importResultSchema>;

/** Which part of the data: the second of ten parts (`2/10`), or about so much (`5%`). */
export const subsetSchema = z
  .string()
  .regex(/^[1-9]\d{0,4}\/[1-9]\d{0,4}$|^[1-9]\d?%$|^100%$/)
  .refine((text) => text.endsWith('%') || Number(text.split('/')[0]) <= Number(text.split('/')[1]));

export const verifyOptionsSchema = z.object({
  /** All data. */
  readData: z.boolean(),
  /** Only a part of it. */
  subset: subsetSchema.optional(),
});
export type VerifyOptions = z.infer<typeof verifyOptionsSchema>;

export const verifyResultSchema = z.object({
  snapshot: z.string(),
  ok: z.boolean(),
  problem: z.string(),
  bytesRead: z.number().int(),
});
export type VerifyResult = z.infer<typeof verifyResultSchema>;

/** What was freed by removing what no snapshot needs. */
export const collectResultSchema = z.object({
  freedBytes: z.number().int(),
  /** What the memory of all snapshots takes now. */
  storedBytes: z.number().int(),
  /** Why something was left that may be garbage: sentences that name what is damaged. */
  skipped: z.array(z.string()),
});
export type CollectResult = z.infer<typeof collectResultSchema>;

/** Of the engine, for all users. */
export const settingsSchema = z.object({
  /** How much disk all snapshots may take; no limit where it is not given. */
  quotaBytes: z.number().int().positive().optional(),
  /** Memory that applications have marked free (MADV_FREE) is not saved. */
  leaveOutFreed: z.boolean().optional(),
  /** Allocators of applications that are started from then on give back what has been freed. */
  trimHeaps: z.boolean().optional(),
});
export type Settings = z.infer<typeof settingsSchema>;

/** How snapshots are encrypted at rest. */
export const encryptionStatusSchema = z.object({
  state: z.enum(['off', 'locked', 'unlocked', 'unreadable']),
  /** Why the keys cannot be read, where the state is that. */
  problem: z.string().optional(),
  /** Who besides root may lock and unlock them. */
  user: z.number().int().nonnegative().optional(),
  /** A keyring of the caller's has a key for them. */
  keyring: z.boolean(),
  /** In packs: encrypted by the key that is in use, and not, or by one that lies open. */
  encryptedBytes: z.number().int().nonnegative(),
  plainBytes: z.number().int().nonnegative(),
  /** Snapshots whose other files are not encrypted: those of an earlier time. */
  plainSnapshots: z.number().int().nonnegative(),
  /** The run folder, where snapshots lie as they are while they are made or resumed, is in memory. */
  runsInMemory: z.boolean(),
});
export type EncryptionStatus = z.infer<typeof encryptionStatusSchema>;

const passphrase = z.string().max(4096);
/** 32 bytes, in hexadecimal. */
const keyringKey = z.string().regex(/^[0-9a-f]{64}$/);

export const encryptionChangeSchema = z.discriminatedUnion('action', [
  z.object({
    action: z.literal('on'),
    passphrase,
    /** Who besides root may lock and unlock. */
    user: z.number().int().nonnegative().optional(),
  }),
  z.object({ action: z.literal('off') }),
  z.object({ action: z.literal('unlock'), passphrase: passphrase.optional(), key: keyringKey.optional() }),
  z.object({ action: z.literal('lock') }),
  z.object({ action: z.literal('passphrase'), passphrase, next: passphrase }),
  /** A key in the caller's keyring is to unlock too. */
  z.object({ action: z.literal('keyring'), key: keyringKey }),
]);
export type EncryptionChange = z.infer<typeof encryptionChangeSchema>;

export const doctorCheckSchema = z.object({
  name: z.string(),
  status: z.enum(['ok', 'warning', 'missing']),
  /** What was found. */
  found: z.string(),
  /** Why it matters; empty when all is well. */
  why: z.string(),
  /** The command that mends it; empty when all is well or nothing can be done. */
  fix: z.string(),
});
export type DoctorCheck = z.infer<typeof doctorCheckSchema>;

export const execSpecSchema = z.object({
  command: z.array(z.string()).min(1),
  env: z.record(z.string(), z.string()),
});
export type ExecSpec = z.infer<typeof execSpecSchema>;

/** A window of the application in a capsule. */
export const capsuleWindowSchema = z.object({
  /** The X server's number for it. */
  id: z.number().int().nonnegative(),
  title: z.string(),
  /** It has the keyboard. */
  active: z.boolean(),
  /** WM_CLASS, by which a desktop entry names its windows (StartupWMClass). */
  class: z.string(),
});
export type CapsuleWindow = z.infer<typeof capsuleWindowSchema>;

export const pictureSizes = ['thumbnail', 'full'] as const;
export type PictureSize = (typeof pictureSizes)[number];

/**
 * The steps of a suspend and of a resume, in order, as progress reports name them. `load` follows `done`, where memory is
 * fetched while the application runs already, until all is there: as nothing waits for it, it is no step of the resume.
 */
export const phases = [
  'inspect',
  'detach',
  'freeze',
  'checkpoint',
  'commit',
  'release',
  'network',
  'verify',
  'prepare',
  'restore',
  'done',
  'load',
  'read',
  'write',
] as const;
export type Phase = (typeof phases)[number];

export const progressSchema = z.object({
  /** The id of a workload; for an export or import the path of the bundle. */
  workload: z.string(),
  operation: z.enum(['suspend', 'resume', 'export', 'import']),
  phase: z.enum(phases),
  /**
   * Bytes done and in all, as far as known; 0 otherwise. Within a phase what is done never becomes less, and never more
   * than what there is in all.
   */
  bytesDone: z.number().int(),
  bytesTotal: z.number().int(),
});
export type Progress = z.infer<typeof progressSchema>;

export const pluginInfoSchema = z.object({
  name: z.string(),
  /** What it calls itself; empty where it could not be asked. */
  title: z.string(),
  policy: z.enum(['optional', 'required']),
  /** It was on the bus before it was asked for. */
  running: z.boolean(),
  /** Names of plugins that are ready before it. */
  after: z.array(z.string()),
  /** The file by which it is started; absent where it has registered by itself. */
  file: z.string().optional(),
  /** Why it is not called; absent where it is. */
  problem: z.string().optional(),
});
export type PluginInfo = z.infer<typeof pluginInfoSchema>;

export const pluginReportSchema = z.object({
  plugins: z.array(pluginInfoSchema),
  /** Sentences about files that are left out. */
  problems: z.array(z.string()),
});
export type PluginReport = z.infer<typeof pluginReportSchema>;

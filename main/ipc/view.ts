/** What the windows show, as the app makes it from the engine, the desktop and the settings: data only. */
import { z } from 'zod';
import {
  amountSchema,
  arrivalSchema,
  exportResultSchema,
  findingSchema,
  type IntervalState,
  importResultSchema,
  leftOutSchema,
  longestSessionName,
  mostKeptLast,
  phases,
  pluginReportSchema,
  saveEvents,
  sessionMemberSchema,
  sessionPolicyStateSchema,
  sessionSchema,
  shortestPassphrase,
  snapshotSchema,
  usualKeepLast,
  workloadSchema,
} from '../../api/types.ts';
import { defaultMemoryPolicy, memoryPolicySchema } from './policy-view.ts';

export { longestSessionName, mostKeptLast, saveEvents, shortestPassphrase };

/** Where a window is: its address is `#` and this as a path, such as `#/snapshots/1a2b3c4d`. */
export const placeSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('home') }),
  z.object({ kind: z.literal('launch') }),
  z.object({ kind: z.literal('sessions') }),
  z.object({ kind: z.literal('bundles'), workload: z.string().optional() }),
  z.object({ kind: z.literal('snapshots'), workload: z.string() }),
  z.object({ kind: z.literal('settings') }),
  z.object({ kind: z.literal('memory') }),
  z.object({ kind: z.literal('automatic') }),
  z.object({ kind: z.literal('screen'), workload: z.string() }),
]);
export type Place = z.infer<typeof placeSchema>;

/** A sentence for the user, and the next step; `hint` may be empty. */
/** What an application gives up in a capsule, to which its user has to agree once. */
export const consentViewSchema = z.object({ id: z.string(), what: z.string() });
export type ConsentView = z.infer<typeof consentViewSchema>;

/** Plugins as the engine tells of them. */
export const pluginReportViewSchema = pluginReportSchema;
export type PluginReportView = z.infer<typeof pluginReportViewSchema>;

export const noticeSchema = z.object({
  level: z.enum(['info', 'warning', 'error']),
  message: z.string(),
  hint: z.string(),
});
export type Notice = z.infer<typeof noticeSchema>;

export const engineStateSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('connecting') }),
  z.object({ kind: z.literal('ready'), version: z.string(), stateDir: z.string() }),
  /** Not there, or of another version; it is tried again by itself. */
  z.object({ kind: z.literal('unavailable'), message: z.string(), hint: z.string() }),
]);
export type EngineState = z.infer<typeof engineStateSchema>;

/** Snapshots that are taken by itself, and how it goes. */
export type IntervalView = IntervalState;

/** How far something is; 0 bytes where not known. */
const progressViewSchema = amountSchema.extend({
  /** Over the last seconds; absent until it can be told. */
  bytesPerSecond: z.number().optional(),
  secondsLeft: z.number().optional(),
});
export type ProgressView = z.infer<typeof progressViewSchema>;

export const operationSchema = progressViewSchema.extend({
  operation: z.enum(['suspend', 'resume']),
  phase: z.enum(phases),
  /** A cancel is under way. */
  cancelling: z.boolean(),
});
export type Operation = z.infer<typeof operationSchema>;

/** A bundle that is being written or read. */
export const bundleOperationSchema = progressViewSchema.extend({
  path: z.string(),
  operation: z.enum(['export', 'import']),
  /** What runs is suspended in the first one, and resumed in the last; how far that is each of the workloads tells. */
  phase: z.enum(['prepare', 'write', 'verify', 'read', 'resume']),
  /** Ids of what is written; of what was read once it is resumed. */
  workloads: z.array(z.string()),
  /** The name of the drive that it is on, where that can be taken away. */
  drive: z.string().optional(),
  cancelling: z.boolean(),
});
export type BundleOperation = z.infer<typeof bundleOperationSchema>;

/** How the last one ended; told until it is dismissed or another one begins. */
const endSchema = z.object({
  /** Counts them. */
  number: z.number().int(),
  path: z.string(),
  drive: z.string().optional(),
});
const workloadNameSchema = z.object({ id: z.string(), name: z.string() });
export const bundleEndSchema = z.discriminatedUnion('kind', [
  /** All of it is synced and read back: the drive can be removed. */
  endSchema
    .extend({ kind: z.literal('exported'), workloads: z.array(workloadNameSchema) })
    .extend(exportResultSchema.pick({ bytes: true, bytesWritten: true, findings: true }).shape),
  endSchema
    .extend({
      kind: z.literal('imported'),
      workloads: z.array(workloadNameSchema),
      /** Where they were taken in, and did not resume. */
      notResumed: z.object({ message: z.string(), hint: z.string() }).optional(),
    })
    .extend(importResultSchema.pick({ isHome: true, documents: true, findings: true }).shape),
  endSchema.extend({
    kind: z.literal('failed'),
    operation: z.enum(['export', 'import']),
    /** As the user wanted it. */
    cancelled: z.boolean(),
    message: z.string(),
    hint: z.string(),
    /** It is the passphrase that is wrong. */
    isPassphrase: z.boolean(),
    /** Were suspended for it, and are so still. */
    suspended: z.array(workloadNameSchema),
  }),
]);
export type BundleEnd = z.infer<typeof bundleEndSchema>;

export const bundleOnDriveSchema = z.object({
  path: z.string(),
  name: z.string(),
  form: z.enum(['file', 'folder']),
  /** ISO 8601. */
  changedAt: z.string(),
});
export type BundleOnDrive = z.infer<typeof bundleOnDriveSchema>;

/** A mounted drive that can be taken away. */
export const driveSchema = z.object({
  /** Where it is mounted. */
  path: z.string(),
  /** Its label, or what it is. */
  name: z.string(),
  fileSystem: z.string(),
  freeBytes: z.number(),
  totalBytes: z.number(),
  /** For this user. */
  readOnly: z.boolean(),
  bundles: z.array(bundleOnDriveSchema),
});
export type Drive = z.infer<typeof driveSchema>;

/** A card of the home view. */
export const workloadViewSchema = workloadSchema
  .omit({ screen: true, terminal: true, loading: true })
  .extend({
    /** It is a job that runs in a terminal of its own. */
    hasTerminal: z.boolean(),
    /** The desktop entry's name in the user's language, or the workload's own. */
    title: z.string(),
    /** Address of its icon on this origin. */
    icon: z.string(),
    /** Address of its latest picture on this origin, another one whenever the picture is; absent where there is none. */
    thumbnail: z.string().optional(),
    /** When it came into its state, ISO 8601. */
    since: z.string(),
    /** What its snapshots take on disk, in bytes. */
    bytesOnDisk: z.number(),
    snapshots: z.number().int(),
    /** Memory that is free because it is suspended, in bytes; 0 otherwise. */
    freedBytes: z.number(),
    operation: operationSchema.optional(),
    /** It runs while its memory is still being fetched. */
    loading: progressViewSchema.optional(),
  });
export type WorkloadView = z.infer<typeof workloadViewSchema>;

/** A session that has a name, its members in the order in which a restore brings them back. */
export const sessionViewSchema = sessionSchema.extend({
  /** What was suspended all at once last; its name is the program's. */
  isLast: z.boolean(),
  members: z.array(
    sessionMemberSchema.extend({
      /** As of a workload; see {@link workloadViewSchema}. */
      title: z.string(),
      icon: z.string(),
      /** Of what it is suspended in. */
      thumbnail: z.string().optional(),
    }),
  ),
});
export type SessionView = z.infer<typeof sessionViewSchema>;

/** How the saving of a session ended. */
export const sessionSavedSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('saved'),
    suspended: z.number().int(),
    freedBytes: z.number(),
    /** Run on. */
    left: z.array(leftOutSchema),
  }),
  /** Nothing was suspended; all runs on. */
  z.object({
    kind: z.literal('refused'),
    /** As the user wanted it. */
    cancelled: z.boolean(),
    message: z.string(),
    hint: z.string(),
    /** What blocks it, where that is what was refused. */
    findings: z.array(findingSchema),
  }),
]);
export type SessionSaved = z.infer<typeof sessionSavedSchema>;

export const sessionRestoredSchema = z.object({
  resumed: z.number().int(),
  /** Of what does not run. */
  left: z.array(leftOutSchema),
});
export type SessionRestored = z.infer<typeof sessionRestoredSchema>;

/** One point of an application's timeline. */
export const snapshotViewSchema = snapshotSchema.extend({
  thumbnail: z.string().optional(),
  picture: z.string().optional(),
  /** The workload is suspended in it or was last resumed from it. */
  current: z.boolean(),
});
export type SnapshotView = z.infer<typeof snapshotViewSchema>;

export const applicationSchema = z.object({
  /** Desktop file id, such as `org.gnome.Calculator.desktop`. */
  id: z.string(),
  name: z.string(),
  comment: z.string(),
  keywords: z.array(z.string()),
  categories: z.array(z.string()),
  icon: z.string(),
  terminal: z.boolean(),
  /** Desktop actions, such as "New window". */
  actions: z.array(z.object({ id: z.string(), name: z.string() })),
  mimeTypes: z.array(z.string()),
  /** When it was last started from here, ISO 8601. */
  usedAt: z.string().optional(),
  /** Why it cannot be started, such as a broken entry. */
  problem: z.string().optional(),
});
export type Application = z.infer<typeof applicationSchema>;

export const findingViewSchema = findingSchema.extend({
  /** What Torpor can do about it at the press of a button. */
  remedy: z.object({ id: z.string(), pid: z.number().int().optional(), label: z.string() }).optional(),
});
export type FindingView = z.infer<typeof findingViewSchema>;

/** A program in a terminal that Torpor did not start, by its first process. */
export const programSchema = z.object({
  pid: z.number().int(),
  name: z.string(),
  command: z.string(),
  /** ISO 8601. */
  startedAt: z.string(),
});
export type ProgramView = z.infer<typeof programSchema>;

/** A window of an application inside its capsule. */
export const windowSchema = z.object({ id: z.number().int(), title: z.string(), active: z.boolean() });
export type CapsuleWindow = z.infer<typeof windowSchema>;

export const languages = ['system', 'en', 'de'] as const;

export const settingsSchema = z.object({
  language: z.enum(languages),
  /** Start with the log-in, in the tray only. */
  startAtLogin: z.boolean(),
  /** What happens to running applications when the session ends. */
  atLogout: z.enum(['leave', 'suspend']),
  /** What happens when memory runs short. */
  atLowMemory: z.enum(['nothing', 'ask', 'suspend']),
  /** Share of memory that must stay available before it counts as short, in percent. */
  lowMemoryPercent: z.number().int().min(1).max(50),
  /** Most that all snapshots may take together, in bytes; 0 is no limit. */
  diskLimitBytes: z.number().int().min(0),
  /** What goes first when the limit is reached; a kept snapshot and the one that is needed to resume never go. */
  removeFirst: z.enum(['oldest', 'largest']),
  /** How many of the snapshots that are taken at an interval stay, where that is set in a window. */
  intervalKeepLast: z.number().int().min(1).max(mostKeptLast),
  /** An application runs again only when all its memory is there. */
  resumeEagerly: z.boolean(),
  /** Applications begin with a snapshot that was taken just after they were ready. */
  startWarm: z.boolean(),
  /** Global shortcut, such as `Control+Alt+S`, that suspends the application in front; empty for none. */
  suspendShortcut: z.string(),
  /** Which applications are put aside by themselves, and when. */
  memoryPolicy: memoryPolicySchema,
});
export type Settings = z.infer<typeof settingsSchema>;

export const defaultSettings: Settings = {
  language: 'system',
  startAtLogin: false,
  atLogout: 'leave',
  atLowMemory: 'ask',
  lowMemoryPercent: 8,
  diskLimitBytes: 0,
  removeFirst: 'oldest',
  intervalKeepLast: usualKeepLast,
  resumeEagerly: false,
  startWarm: false,
  suspendShortcut: '',
  memoryPolicy: defaultMemoryPolicy,
};

export const appStateSchema = z.object({
  engine: engineStateSchema,
  workloads: z.array(workloadViewSchema),
  /** Newest first. */
  sessions: z.array(sessionViewSchema),
  /** Memory free because of all that is suspended, in bytes. */
  freedBytes: z.number(),
  /** What all snapshots take, and what is free where they are, in bytes. */
  diskBytes: z.number(),
  diskFreeBytes: z.number(),
  /** A bundle that is under way. */
  bundle: bundleOperationSchema.optional(),
  bundleEnd: bundleEndSchema.optional(),
  /** What the engine saves by itself for this user; absent until it has told it. */
  policy: sessionPolicyStateSchema.optional(),
  /** Of a jump to another kernel after which not all came back; told until it is dismissed. */
  arrival: arrivalSchema.optional(),
  /** Nothing is suspended automatically until this is over. */
  paused: z.boolean(),
  settings: settingsSchema,
  shell: z.object({
    kind: z.enum(['electron', 'chromium', 'browser']),
    tray: z.boolean(),
    globalShortcut: z.boolean(),
  }),
  /** The desktop's language, such as `de_DE`. */
  locale: z.string(),
});
export type AppState = z.infer<typeof appStateSchema>;

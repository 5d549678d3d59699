/**
 * The snapshot manifest: what a snapshot is, and a hash of every byte that belongs to it. Written as JSON; its MAC
 * stands beside it in a file of its own and is checked before a byte of it is parsed.
 */
import { z } from 'zod';

/**
 * Readers refuse a higher version; a change that older readers would misread raises it. In version 1 memory contents
 * are files among the images; in version 2 they are in the store of pages; in version 3 they and the files are encrypted.
 */
export const manifestVersion = 3;
export const plainVersion = 2;

const relativePath = z
  .string()
  .regex(/^[^/]+(\/[^/]+)*$/)
  .refine((path) => !path.split('/').includes('..'));

export const manifestFileSchema = z.object({
  /** Below the snapshot's folder. */
  path: relativePath,
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type ManifestFile = z.infer<typeof manifestFileSchema>;

export const userSchema = z.object({
  uid: z.number().int().nonnegative(),
  gid: z.number().int().nonnegative(),
  groups: z.array(z.number().int().nonnegative()),
  name: z.string(),
  home: z.string(),
  shell: z.string(),
});

/** A host file system, other than the root, that the capsule sees. */
export const hostMountSchema = z.object({
  /** The key by which CRIU's image names the mount. */
  key: z.string().regex(/^host\d+$/),
  path: z.string().startsWith('/'),
});
export type HostMount = z.infer<typeof hostMountSchema>;

/** Where a workload that came with a bundle is at home, so that it can be told when it comes back there. */
export const originSchema = z.object({
  /** Of the engine: what is in its `machine-id`. */
  machine: z.string().regex(/^[0-9a-f]{32}$/),
  workload: z.string(),
  user: userSchema,
  root: z.string().startsWith('/'),
  hostMounts: z.array(hostMountSchema),
  hostname: z.string(),
});
export type Origin = z.infer<typeof originSchema>;

const findingSchema = z.object({
  tie: z.string(),
  verdict: z.enum(['handled', 'degraded', 'blocking']),
  by: z.string(),
  what: z.string(),
  hint: z.string(),
});

/** What a capsule is made of, apart from whether it runs. */
export const capsuleSpecSchema = z.object({
  command: z.array(z.string()).min(1),
  cwd: z.string().startsWith('/'),
  env: z.record(z.string(), z.string()),
  root: z.string().startsWith('/'),
  user: userSchema,
  hostMounts: z.array(hostMountSchema),
  hostname: z.string(),
  geometry: z.string().regex(/^\d+x\d+$/),
  /** Number of its X display. Snapshots of the first version have none: theirs is 0. */
  display: z.number().int().min(0).max(59_000).optional(),
  /** Id of the desktop entry it was started from. Snapshots of the first version have none. */
  application: z.string().optional(),
  /** It was started to do without what a CPU has beyond x86-64-v2 (engine/capsule/cpu-baseline.ts). */
  cpuBaseline: z.literal(true).optional(),
  /** What application profiles made of its start; absent where none was for it. */
  profiles: z
    .object({
      names: z.array(z.string()),
      findings: z.array(findingSchema),
      /** File names of Torpor's libraries that are loaded into the application. */
      preloads: z.array(z.string().regex(/^[a-z0-9][a-z0-9.-]*\.so$/)),
      /** Names, with `{}` for a document's, of files by which it marks what it has open. */
      lockFiles: z.array(z.string()),
      /** How long a resume waits for a network, in seconds. */
      waitNetwork: z.number().int().positive().optional(),
    })
    .optional(),
  /** Of one that came with a bundle: its root is this layer over the machine's files (engine/bundle/layers.ts). */
  layer: z.object({ id: z.string().regex(/^[0-9a-f]{16}$/), origin: originSchema }).optional(),
});
export type CapsuleSpec = z.infer<typeof capsuleSpecSchema>;

/** What a job is made of, apart from whether it runs. Pids are as its own processes count them. */
export const jobSpecSchema = z.object({
  command: z.array(z.string()).min(1),
  cwd: z.string().startsWith('/'),
  user: userSchema,
  /** Its first process. */
  root: z.number().int().positive(),
  /** The leader of the session of its first process, which may be that process itself. */
  session: z.number().int().nonnegative(),
  /** The terminal that it shares with the outside, if any. */
  terminal: z
    .object({
      /** As CRIU names a terminal that is outside: device and inode's device, in hexadecimal. */
      key: z.string().regex(/^tty\[[0-9a-f]+:[0-9a-f]+\]$/),
      columns: z.number().int().positive(),
      rows: z.number().int().positive(),
    })
    .optional(),
});
export type JobSpec = z.infer<typeof jobSpecSchema>;

/** A unix socket that is not where it was bound. */
export const movedSocketSchema = z.object({
  /** It has another name now, or none. */
  kind: z.enum(['moved', 'nameless']),
  from: z.string().startsWith('/'),
  /** Where a restore binds it. */
  to: z.string().startsWith('/'),
});
export type MovedSocket = z.infer<typeof movedSocketSchema>;

/** A document, and the file beside it by which the application tells others that it has it open. */
export const documentLockSchema = z.object({
  document: z.string().startsWith('/'),
  path: z.string().startsWith('/'),
  /** At most some kilobytes, base64. */
  contents: z.base64(),
});
export type DocumentLock = z.infer<typeof documentLockSchema>;

/** A file the application had mapped or open, by which a later change of it is found. */
export const fileRecordSchema = z.record(z.string(), z.unknown());

/** The set of workloads that were suspended at the same instant. */
export const sessionMembershipSchema = z.object({
  id: z.string(),
  members: z.array(z.object({ workload: z.string(), name: z.string() })).min(1),
});
export type SessionMembership = z.infer<typeof sessionMembershipSchema>;

/** A way out of the network that the machine was in, as hashes. */
export const recordedWaySchema = z.object({
  way: z.string(),
  /** With the hardware address of the gateway, where it was known. */
  hardware: z.string().optional(),
});
export type RecordedWay = z.infer<typeof recordedWaySchema>;

const inode = z.number().int().positive();

const line = z.string().regex(/^[^\n]*$/);

/** A connection to a message bus, and what the bus knew of it. */
export const busSocketSchema = z.object({
  inode,
  decision: z.literal('bus'),
  /** Where the bus listens: a path, or `@` and an abstract name. */
  path: line.min(1),
  /** The unique name that the program knows. */
  unique: z.string().regex(/^:[\w.-]+$/),
  names: z.array(z.string().regex(/^\S+$/)),
  matches: z.array(line),
  rulesKnown: z.boolean(),
  /** Names that it watches, with the unique name of who had each; empty where nobody had. */
  known: z.array(z.object({ name: z.string().regex(/^\S+$/), owner: z.string().regex(/^\S*$/) })),
});
export type BusSocket = z.infer<typeof busSocketSchema>;

/** A unix socket whose other end was outside, by the inode in CRIU's images, and how it is to come back. */
export const decidedSocketSchema = z.discriminatedUnion('decision', [
  z.object({ inode, decision: z.literal('reconnect') }),
  z.object({ inode, decision: z.literal('hang-up') }),
  /** Its other end was in another workload of the session. */
  z.object({ inode, decision: z.literal('session'), peer: inode, workload: z.string() }),
  busSocketSchema,
]);
export type DecidedSocket = z.infer<typeof decidedSocketSchema>;

/** A pipe, by the inode in CRIU's images, of which other workloads of the session had ends too. */
export const sharedPipeSchema = z.object({ inode, workloads: z.array(z.string()).min(1) });
export type SharedPipe = z.infer<typeof sharedPipeSchema>;

/** What keeps the machine from something, in the words of the log-in manager's Inhibit. */
export const inhibitorSchema = z.object({
  what: z.string().regex(/^[a-z-]+(:[a-z-]+)*$/),
  who: z.string().max(1024),
  why: z.string().max(1024),
  mode: z.string().regex(/^[a-z-]+$/),
});
export type Inhibitor = z.infer<typeof inhibitorSchema>;

/** One that a job has, by the path of the named pipe that stands for it; `comm` is who has it. */
export const heldInhibitorSchema = inhibitorSchema.extend({
  path: z.string().regex(/^\/[^\0]+$/),
  comm: z.string(),
});
export type HeldInhibitor = z.infer<typeof heldInhibitorSchema>;

/** What a plugin gave when the snapshot was taken. */
export const pluginStateSchema = z.object({
  name: z.string(),
  /** What it called itself. */
  title: z.string(),
  policy: z.enum(['optional', 'required']),
  /** Whether it is called before anything of it runs. */
  beforeItRuns: z.boolean(),
  /** Opaque, base64; empty where the plugin had failed. */
  state: z.base64().max(128 * 1024),
});
export type PluginState = z.infer<typeof pluginStateSchema>;

/** What of a snapshot is in the store of pages. */
export const storedPagesSchema = z.object({
  /** How many `pages-N.img` there would be. */
  images: z.number().int().nonnegative(),
  pages: z.number().int().nonnegative(),
  zeroPages: z.number().int().nonnegative(),
  chunks: z.number().int().nonnegative(),
  /** What was written to packs for it, of chunks that were not there yet. */
  storedBytes: z.number().int().nonnegative(),
});
export type StoredPages = z.infer<typeof storedPagesSchema>;

const common = z.object({
  version: z.union([z.literal(1), z.literal(plainVersion), z.literal(manifestVersion)]),
  id: z.string(),
  workload: z.string(),
  name: z.string(),
  startedAt: z.string(),
  takenAt: z.string(),
  leftRunning: z.boolean(),
  /** When its user last typed or pointed at something in it, as far as that is known. */
  lastUsedAt: z.string().optional(),
  /** The engine took it by itself, and removes it when enough later ones have been taken so. */
  atInterval: z.boolean().optional(),
  memoryBytes: z.number().int().nonnegative(),
  processes: z.array(z.object({ pid: z.number().int(), name: z.string() })),
  /** From the freeze until the manifest was written, in milliseconds. */
  standstillMs: z.number().nonnegative(),
  /** From the request until the manifest was written, in milliseconds. */
  durableMs: z.number().nonnegative(),
  host: z.object({
    kernel: z.string(),
    criu: z.string(),
    architecture: z.string(),
    /** The flags of /proc/cpuinfo. */
    cpuFeatures: z.array(z.string()),
  }),
  findings: z.array(findingSchema),
  externalSockets: z.array(decidedSocketSchema).optional(),
  /** Where TCP connections were kept: the nftables table (family inet) that keeps their packets away. */
  connectionLock: z.string().optional(),
  /** Empty where the machine had no way out. Earlier snapshots have none of this. */
  network: z.array(recordedWaySchema).optional(),
  sharedPipes: z.array(sharedPipeSchema).optional(),
  inhibitors: z.array(heldInhibitorSchema).optional(),
  session: sessionMembershipSchema.optional(),
  /** Opaque to the format: the engine's own record of files (engine/files). */
  surroundings: z.array(fileRecordSchema),
  movedSockets: z.array(movedSocketSchema).optional(),
  /** Those that detached it, the first one first. */
  plugins: z.array(pluginStateSchema).optional(),
  documentLocks: z.array(documentLockSchema).optional(),
  /** Those of version 2 have it. */
  pages: storedPagesSchema.optional(),
  /** The snapshot that its pages were compared with. Nothing of it is needed any more. */
  parent: z.string().optional(),
  files: z.array(manifestFileSchema).min(1),
  /** By which key its files are encrypted, and all of the manifest that the rest of it leaves out. */
  encryption: z.object({ keyId: z.string().regex(/^[0-9a-f]{32}$/), sealed: z.base64() }).optional(),
  /** Never written: the key is locked, and what it keeps is left out. */
  isLocked: z.literal(true).optional(),
});

/** What a workload is made of, by its kind. */
export const capsuleKindSchema = z.object({ kind: z.literal('capsule'), capsule: capsuleSpecSchema });
export const jobKindSchema = z.object({ kind: z.literal('job'), job: jobSpecSchema });
export type WorkloadKind = z.infer<typeof capsuleKindSchema> | z.infer<typeof jobKindSchema>;

/** What both kinds have: who it belongs to, and what was started where. */
export function specOf(workload: WorkloadKind): CapsuleSpec | JobSpec {
  return workload.kind === 'capsule' ? workload.capsule : workload.job;
}

/** Just that of a manifest or a record. */
export function kindOf(workload: WorkloadKind): WorkloadKind {
  return workload.kind === 'capsule'
    ? { kind: 'capsule', capsule: workload.capsule }
    : { kind: 'job', job: workload.job };
}

export const manifestSchema = z
  .discriminatedUnion('kind', [common.extend(capsuleKindSchema.shape), common.extend(jobKindSchema.shape)])
  .refine(({ version, pages }) => version === manifestVersion || (version === 1) === (pages === undefined), {
    path: ['pages'],
  })
  .refine(({ version, encryption }) => (version === manifestVersion) === (encryption !== undefined), {
    path: ['encryption'],
  });
export type Manifest = z.infer<typeof manifestSchema>;
/** What of a manifest is the workload's and the moment's; the store adds the rest. */
export type ManifestBody = Omit<
  z.infer<typeof common>,
  'version' | 'id' | 'files' | 'encryption' | 'isLocked'
> &
  WorkloadKind;

/**
 * The snapshot manifest: what a snapshot is, and a hash of every byte that belongs to it. Written as JSON; its MAC
 * stands beside it in a file of its own and is checked before a byte of it is parsed.
 */
import { z } from 'zod';

/** Readers refuse a higher version; a change that older readers would misread raises it. */
export const manifestVersion = 1;

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
});
export type CapsuleSpec = z.infer<typeof capsuleSpecSchema>;

/** A file the application had mapped or open, by which a later change of it is found. */
export const fileRecordSchema = z.record(z.string(), z.unknown());

export const manifestSchema = z.object({
  version: z.literal(manifestVersion),
  id: z.string(),
  workload: z.string(),
  name: z.string(),
  kind: z.literal('capsule'),
  capsule: capsuleSpecSchema,
  startedAt: z.string(),
  takenAt: z.string(),
  leftRunning: z.boolean(),
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
  findings: z.array(
    z.object({
      tie: z.string(),
      verdict: z.enum(['handled', 'degraded', 'blocking']),
      by: z.string(),
      what: z.string(),
      hint: z.string(),
    }),
  ),
  /** Opaque to the format: the engine's own record of files (engine/files). */
  surroundings: z.array(fileRecordSchema),
  files: z.array(manifestFileSchema).min(1),
});
export type Manifest = z.infer<typeof manifestSchema>;

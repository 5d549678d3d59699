/**
 * What is in a bundle, as its catalogue says it (docs/bundle-format.md, "Contents"): JSON that the medium program keeps
 * without looking into it. Files are lists of chunks, by their number in the catalogue.
 */
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import { type Manifest, manifestSchema, originSchema } from '../../proto/manifest.ts';

/** A reader refuses a higher one. */
export const contentsVersion = 1;

/** So that what somebody writes into a catalogue cannot take all memory. */
const mostWorkloads = 1000;
const mostEntries = 1_000_000;

const list = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** As a capsule sees it: from its root, and nothing in it that leads elsewhere. */
const absolute = z
  .string()
  .max(4095)
  .regex(/^(\/[^/\0]+)+$/)
  .refine((path) => !path.split('/').some((part) => part === '.' || part === '..'), 'leads elsewhere');
const mode = z.number().int().min(0).max(0o777);
const owner = z.enum(['root', 'user']);

export const roles = ['executable', 'library', 'mapped-data', 'document', 'data'] as const;

const layerFileSchema = z.object({
  kind: z.literal('file'),
  path: absolute,
  role: z.enum(roles),
  list,
  bytes: z.number().int().nonnegative(),
  sha256,
  mode,
  owner,
  /** Nanoseconds since 1970, in decimal. */
  mtimeNs: z.string().regex(/^-?\d{1,19}$/),
});
export type LayerFile = z.infer<typeof layerFileSchema>;

export const layerEntrySchema = z.discriminatedUnion('kind', [
  layerFileSchema,
  z.object({ kind: z.literal('folder'), path: absolute, mode, owner }),
  z.object({
    kind: z.literal('link'),
    path: absolute,
    target: z
      .string()
      .min(1)
      .max(4095)
      .regex(/^[^\0]+$/),
    owner,
  }),
]);
export type LayerEntry = z.infer<typeof layerEntrySchema>;

/** A file of the user's as it was when the workload left home. */
export const baseSchema = z.array(z.object({ path: absolute, sha256 })).max(mostEntries);
export type Base = z.infer<typeof baseSchema>;

const bundledSchema = z.object({
  /** A manifest of version 1 or 2. */
  manifest: manifestSchema,
  files: z
    .array(
      z.object({
        path: z.string().regex(/^(images|pages|kept)\/[\w.@-]+$|^[\w.-]+$/),
        list,
      }),
    )
    .max(mostEntries),
  /** Chunks of its memory. */
  memory: list.optional(),
  layer: z.array(layerEntrySchema).max(mostEntries),
  origin: originSchema,
  base: baseSchema,
});
export type Bundled = z.infer<typeof bundledSchema>;

export const contentsSchema = z.object({
  version: z.literal(contentsVersion),
  writtenAt: z.string(),
  /** Of Torpor. */
  engine: z.string(),
  workloads: z.array(bundledSchema).min(1).max(mostWorkloads),
});
export type Contents = z.infer<typeof contentsSchema>;

/** @throws TorporError `failed` where a newer Torpor wrote it, or it is not as it must be. */
export function parseContents(value: unknown, path: string): Contents {
  const { version } = (value ?? {}) as { version?: unknown };
  if (typeof version === 'number' && version > contentsVersion)
    throw new TorporError(
      'failed',
      `The bundle ${path} was written by a newer Torpor (contents ${version}; this one reads ${contentsVersion}).`,
      'Import it with the newer Torpor.',
    );
  const parsed = contentsSchema.safeParse(value);
  if (!parsed.success)
    throw new TorporError(
      'failed',
      `The bundle ${path} says something that this Torpor does not understand, at ${parsed.error.issues[0]?.path.join('.') || 'its beginning'}. Nothing was imported.`,
      'Export it again, with the same version of Torpor on both machines.',
    );
  for (const { manifest } of parsed.data.workloads) refuseEncrypted(manifest, path);
  return parsed.data;
}

function refuseEncrypted({ encryption, name }: Manifest, path: string): void {
  if (encryption === undefined) return;
  throw new TorporError(
    'failed',
    `The bundle ${path} has ${name} encrypted by a key of the machine it comes from.`,
    'Export it again with this version of Torpor.',
  );
}

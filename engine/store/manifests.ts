/** Manifests on disk: written so that they can be read again, and authenticated before a byte of them is parsed. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import { type Manifest, manifestSchema, manifestVersion } from '../../proto/manifest.ts';
import { writeSynced } from '../durable.ts';
import { together } from '../together.ts';
import type { Encryption } from './encryption/encryption.ts';
import { openManifest } from './encryption/sealed-manifest.ts';
import type { StoreKey } from './key.ts';
import { damaged } from './verification.ts';

const manifestFile = 'manifest.json';
const macFile = 'manifest.mac';

/**
 * Writes a manifest and its MAC, synced; their names are only with the folder.
 * @throws TorporError `failed` where it could not be read again: then nothing has been written.
 */
export async function writeManifest(folder: string, manifest: Manifest, key: StoreKey): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(manifest, null, 1));
  const { error: unreadable } = manifestSchema.safeParse(JSON.parse(bytes.toString('utf8')));
  if (unreadable !== undefined)
    throw new TorporError(
      'failed',
      `The snapshot could not be read again: its manifest is not as expected at ${placeOf(unreadable)}.`,
      'This is a defect of Torpor: please report it with the log of the engine (log/torpord.log in the state folder).',
    );
  // Nothing looks at the folder before it has its name, so its parts need no order among themselves.
  await together([
    writeSynced(join(folder, manifestFile), bytes),
    writeSynced(join(folder, macFile), key.mac(bytes)),
  ]);
}

/** @throws TorporError `failed` where MAC, form or version are wrong, or it is not there. */
export async function readManifest(
  folder: string,
  id: string,
  key: StoreKey,
  encryption?: Encryption,
): Promise<Manifest> {
  let bytes: Buffer;
  let mac: string;
  try {
    bytes = await readFile(join(folder, manifestFile));
    mac = await readFile(join(folder, macFile), 'utf8');
  } catch (error) {
    throw damaged(id, `its manifest cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  if (!key.fits(bytes, mac.trim()))
    throw damaged(id, 'its manifest was changed since it was written (the MAC does not fit)');
  const manifest = parse(id, JSON.parse(bytes.toString('utf8')));
  let whole: Manifest;
  try {
    whole = openManifest(encryption, manifest);
  } catch {
    throw damaged(id, 'the encrypted part of its manifest is not what was written');
  }
  return whole === manifest ? manifest : parse(id, whole);
}

function parse(id: string, value: { version?: unknown }): Manifest {
  if (typeof value.version === 'number' && value.version > manifestVersion) {
    throw new TorporError(
      'failed',
      `Snapshot ${id} was written by a newer Torpor (format ${value.version}; this one reads ${manifestVersion}).`,
      'Install the newer Torpor and resume it with that.',
    );
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) throw damaged(id, `its manifest is not as expected at ${placeOf(parsed.error)}`);
  if (parsed.data.id !== id) throw damaged(id, `its manifest is that of another snapshot, ${parsed.data.id}`);
  return parsed.data;
}

/** Where a manifest differs from what is expected, for people. */
const placeOf = ({ issues }: z.ZodError): string => issues[0]?.path.join('.') ?? '';

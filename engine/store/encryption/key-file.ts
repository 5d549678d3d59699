/**
 * `encryption.json` of a state folder: the keys that the store has been encrypted by, each wrapped or, once encryption
 * has been turned off, lying open. The first one is what is written by from now on, if it is wrapped.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { TorporError } from '../../../api/errors.ts';
import { writeDurable } from '../../durable.ts';
import { keyBytes, keyIdOf } from './secrets.ts';
import { wrapSchema } from './wraps.ts';

const keyId = z.string().regex(/^[0-9a-f]{32}$/);

const wrappedSchema = z.object({ kind: z.literal('wrapped'), keyId, wraps: z.array(wrapSchema).min(1) });
const openSchema = z
  .object({ kind: z.literal('open'), keyId, key: z.string().regex(/^[0-9a-f]{64}$/) })
  .refine(({ key, keyId: id }) => keyIdOf(Buffer.from(key, 'hex')) === id, { path: ['key'] });
export type WrappedKey = z.infer<typeof wrappedSchema>;
export type OpenKey = z.infer<typeof openSchema>;

/** As many as the programs take (native/pages/crypt.h). */
export const keysMost = 16;

const fileSchema = z
  .object({
    version: z.literal(1),
    /** Who besides root may lock and unlock it. */
    user: z.number().int().nonnegative().optional(),
    keys: z
      .array(z.union([wrappedSchema, openSchema]))
      .min(1)
      .max(keysMost),
  })
  .refine(({ keys }) => keys.slice(1).every(({ kind }) => kind === 'open'), { path: ['keys'] });
export type KeyFile = z.infer<typeof fileSchema>;

/**
 * Undefined where there is none.
 * @throws TorporError `failed` where it is damaged or of a newer Torpor.
 */
export async function readKeyFile(path: string): Promise<KeyFile | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw unusable(path, `cannot be read (${code})`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unusable(path, 'is damaged: it is no JSON');
  }
  const { version } = (value ?? {}) as { version?: unknown };
  if (typeof version === 'number' && version > 1)
    throw unusable(path, `was written by a newer Torpor (version ${version}; this one reads 1)`);
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success)
    throw unusable(path, `is damaged: it is not as expected at ${parsed.error.issues[0]?.path.join('.')}`);
  return parsed.data;
}

export async function writeKeyFile(path: string, file: KeyFile): Promise<void> {
  await writeDurable(path, JSON.stringify(file, null, 1));
}

function unusable(path: string, what: string): TorporError {
  return new TorporError(
    'failed',
    `The file with the keys of the encrypted snapshots, ${path}, ${what}. It is left as it is.`,
    'Put it back from a backup and start the engine anew; without it the snapshots that are encrypted cannot be read.',
  );
}

export const openKeyOf = ({ key }: OpenKey): Buffer => Buffer.from(key, 'hex').subarray(0, keyBytes);

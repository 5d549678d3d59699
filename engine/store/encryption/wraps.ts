/**
 * The data key of a store, wrapped: by what comes of a passphrase, or by a key that lies in a user's keyring. Which of them
 * one has does not matter; each gives the same data key.
 */
import { randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';
import { keyBytes, seal, unseal } from './secrets.ts';

const derive = promisify(
  (
    passphrase: string,
    salt: Buffer,
    options: { N: number; r: number; p: number; maxmem: number },
    done: (error: Error | null, key: Buffer) => void,
  ) => scrypt(passphrase, salt, keyBytes, options, done),
);

const sealedSchema = z.base64();

const passphraseWrapSchema = z.object({
  kind: z.literal('passphrase'),
  kdf: z.literal('scrypt'),
  /** N is 2 to the power of this. */
  logN: z.number().int().min(14).max(20),
  r: z.number().int().min(1).max(16),
  p: z.number().int().min(1).max(8),
  salt: z.base64(),
  sealed: sealedSchema,
});
const keyringWrapSchema = z.object({
  kind: z.literal('keyring'),
  uid: z.number().int().nonnegative(),
  sealed: sealedSchema,
});
export const wrapSchema = z.discriminatedUnion('kind', [passphraseWrapSchema, keyringWrapSchema]);
export type Wrap = z.infer<typeof wrapSchema>;
type PassphraseWrap = z.infer<typeof passphraseWrapSchema>;
type KeyringWrap = z.infer<typeof keyringWrapSchema>;

/** 128 MiB and about half a second for each guess. */
const usual = { kdf: 'scrypt', logN: 17, r: 8, p: 1 } as const;

async function keyOf(
  passphrase: string,
  { logN, r, p, salt }: Omit<PassphraseWrap, 'sealed'>,
): Promise<Buffer> {
  const maxmem = 128 * 2 ** logN * r + 128 * r * p + 1024 * 1024;
  // The same words are the same bytes, however the keyboard makes them.
  return derive(passphrase.normalize('NFC'), Buffer.from(salt, 'base64'), { N: 2 ** logN, r, p, maxmem });
}

/** What a wrap is bound to: which key it has, and every number by which it is opened. */
function boundTo(keyId: string, wrap: Wrap): string {
  const { sealed: _sealed, ...parameters } = wrap;
  return JSON.stringify([keyId, Object.entries(parameters).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

export async function wrapByPassphrase(
  key: Buffer,
  keyId: string,
  passphrase: string,
): Promise<PassphraseWrap> {
  const wrap = {
    kind: 'passphrase' as const,
    ...usual,
    salt: randomBytes(16).toString('base64'),
    sealed: '',
  };
  const sealed = seal(await keyOf(passphrase, wrap), key, boundTo(keyId, wrap));
  return { ...wrap, sealed: sealed.toString('base64') };
}

export function wrapByKey(key: Buffer, keyId: string, uid: number, wrapping: Buffer): KeyringWrap {
  const wrap = { kind: 'keyring' as const, uid, sealed: '' };
  return { ...wrap, sealed: seal(wrapping, key, boundTo(keyId, wrap)).toString('base64') };
}

/** @returns undefined where the passphrase is wrong, or the wrap is not what it was. */
export async function openByPassphrase(
  wrap: PassphraseWrap,
  keyId: string,
  passphrase: string,
): Promise<Buffer | undefined> {
  return unseal(await keyOf(passphrase, wrap), Buffer.from(wrap.sealed, 'base64'), boundTo(keyId, wrap));
}

/** @returns undefined where the key does not fit. */
export function openByKey(wrap: KeyringWrap, keyId: string, wrapping: Buffer): Buffer | undefined {
  return unseal(wrapping, Buffer.from(wrap.sealed, 'base64'), boundTo(keyId, wrap));
}

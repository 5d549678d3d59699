/** The cryptography of bundles, as docs/bundle-format.md has it: AES-256-GCM under keys that are derived by HMAC-SHA-256. */
import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto';

const cipher = 'aes-256-gcm';
export const keyBytes = 32;
export const tagBytes = 16;
export const nonceBytes = 12;

export const sha256 = (...parts: readonly Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

export const hmac = (key: Uint8Array, ...parts: readonly (Uint8Array | string)[]): Buffer => {
  const code = createHmac('sha256', key);
  for (const part of parts) code.update(part);
  return code.digest();
};

/** The key of one pack or catalogue: its header has a salt of its own, so that no two have the same. */
export const partKey = (bundleKey: Buffer, label: string, header: Buffer): Buffer =>
  hmac(hmac(bundleKey, label), header);

/** The nonce of a record. Under a part's own key, the number never comes twice. */
export function recordNonce(number: number, isLast = false): Buffer {
  const nonce = Buffer.alloc(nonceBytes);
  nonce.writeUIntLE(number, 0, 6);
  nonce.writeUInt32LE(isLast ? 1 : 0, 8);
  return nonce;
}

/** Ciphertext and tag, not joined, for who copies them anyway. */
export function seal(key: Buffer, nonce: Buffer, bound: Buffer, plain: Uint8Array): [Buffer, Buffer] {
  const sealing = createCipheriv(cipher, key, nonce).setAAD(bound);
  const sealed = sealing.update(plain);
  sealing.final();
  return [sealed, sealing.getAuthTag()];
}

/** @returns undefined where that is not what was sealed. */
export function unseal(key: Buffer, nonce: Buffer, bound: Buffer, sealed: Buffer): Buffer | undefined {
  if (sealed.length < tagBytes) return undefined;
  const opening = createDecipheriv(cipher, key, nonce, { authTagLength: tagBytes }).setAAD(bound);
  const end = sealed.length - tagBytes;
  const plain = opening.setAuthTag(sealed.subarray(end)).update(sealed.subarray(0, end));
  try {
    opening.final();
  } catch {
    return undefined;
  }
  return plain;
}

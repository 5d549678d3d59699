/** What is derived from the data key of a store, and small things that are sealed by a key. */
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';

export const keyBytes = 32;
const nonceBytes = 12;
export const tagBytes = 16;
export const cipher = 'aes-256-gcm';

/** By which a key is known where it is needed; it says nothing of the key itself. */
export function keyIdOf(key: Buffer): string {
  return createHash('sha256').update('torpor key id 1').update(key).digest('hex').slice(0, 32);
}

/** A key for one purpose: nothing that is done with it weakens another. */
export function deriveKey(key: Buffer, purpose: string): Buffer {
  return createHmac('sha256', key).update(purpose).digest();
}

/** @param bound what goes with it, so that it is of no use elsewhere. */
export function seal(key: Buffer, bytes: Buffer, bound: string): Buffer {
  const nonce = randomBytes(nonceBytes);
  const sealing = createCipheriv(cipher, key, nonce).setAAD(Buffer.from(bound));
  return Buffer.concat([nonce, sealing.update(bytes), sealing.final(), sealing.getAuthTag()]);
}

/** @returns undefined where it was not sealed by this key, with this, or is not what it was. */
export function unseal(key: Buffer, sealed: Buffer, bound: string): Buffer | undefined {
  if (sealed.length < nonceBytes + tagBytes) return undefined;
  const opening = createDecipheriv(cipher, key, sealed.subarray(0, nonceBytes));
  opening.setAAD(Buffer.from(bound)).setAuthTag(sealed.subarray(-tagBytes));
  try {
    const bytes = opening.update(sealed.subarray(nonceBytes, -tagBytes));
    return Buffer.concat([bytes, opening.final()]);
  } catch {
    return undefined;
  }
}

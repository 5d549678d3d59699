/** The key that local snapshots are authenticated under; only root reads it. */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import { writeDurable } from '../durable.ts';

const keyBytes = 32;

export class StoreKey {
  readonly #key: Buffer;

  private constructor(key: Buffer) {
    this.#key = key;
  }

  /**
   * Reads it, or makes one.
   * @param isNeeded there are snapshots already, which a new key would make worthless.
   * @throws TorporError `failed` where it is needed and missing, or damaged.
   */
  static async open(path: string, isNeeded: boolean): Promise<StoreKey> {
    const existing = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (existing === undefined) {
      if (isNeeded) {
        throw new TorporError(
          'failed',
          `The key of the snapshot store, ${path}, is missing, and there are snapshots that only it fits.`,
          `Put it back from a backup. To give those snapshots up, move ${join(dirname(path), 'snapshots')} away.`,
        );
      }
      const key = randomBytes(keyBytes);
      await writeDurable(path, key);
      return new StoreKey(key);
    }
    if (existing.length !== keyBytes) {
      throw new TorporError(
        'failed',
        `The key of the snapshot store, ${path}, is damaged (${existing.length} bytes instead of ${keyBytes}).`,
        'Put it back from a backup; without it no snapshot can be authenticated.',
      );
    }
    return new StoreKey(existing);
  }

  mac(bytes: Uint8Array): string {
    return createHmac('sha256', this.#key).update(bytes).digest('hex');
  }

  fits(bytes: Uint8Array, mac: string): boolean {
    const expected = Buffer.from(this.mac(bytes));
    const given = Buffer.from(mac);
    return given.length === expected.length && timingSafeEqual(given, expected);
  }
}

/** How much of a store is encrypted by now. */
import { open, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { EncryptionStatus } from '../../../api/types.ts';
import type { SnapshotStore } from '../snapshot-store.ts';

/** TMPFS_MAGIC of statfs(2). */
const tmpfs = 0x01021994;

/** Where the header of a pack names its key (native/pages/format.h). */
const keyIdAt = 32;
const keyIdBytes = 16;

/** Bytes of packs by the key that they need, in hexadecimal; zeros for none. */
async function bytesByKey(stateDir: string): Promise<Map<string, number>> {
  const folder = join(stateDir, 'packs');
  const bytes = new Map<string, number>();
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.pack')) continue;
    try {
      await using pack = await open(join(folder, name));
      const id = Buffer.alloc(keyIdBytes);
      await pack.read(id, 0, keyIdBytes, keyIdAt);
      const key = id.toString('hex');
      bytes.set(key, (bytes.get(key) ?? 0) + (await pack.stat()).size);
    } catch (error) {
      // Upkeep has just replaced it.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return bytes;
}

/** @param uid who asks. */
export async function describeEncryption(
  store: SnapshotStore,
  runDir: string,
  uid: number,
): Promise<EncryptionStatus> {
  const { encryption } = store;
  const { state, problem, user, keyId } = encryption;
  const byKey = await bytesByKey(store.stateDir);
  const all = [...byKey.values()].reduce((sum, each) => sum + each, 0);
  const encryptedBytes = byKey.get(keyId ?? '') ?? 0;
  const snapshots = await store.list();
  return {
    state,
    ...(problem === undefined ? {} : { problem }),
    ...(user === undefined ? {} : { user }),
    keyring: encryption.hasKeyringOf(uid),
    encryptedBytes,
    plainBytes: all - encryptedBytes,
    plainSnapshots: snapshots.filter(
      (item) =>
        item.kind === 'complete' && (keyId === undefined || item.manifest.encryption?.keyId !== keyId),
    ).length,
    runsInMemory: (await statfs(runDir)).type === tmpfs,
  };
}

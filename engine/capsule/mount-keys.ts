/**
 * The names under which CRIU's images know the mounts that come from outside a capsule. They are the same at dump
 * and restore, while the folders behind them may differ.
 */
import { join } from 'node:path';
import type { CapsuleSpec } from '../../proto/manifest.ts';
import { external } from '../criu/options.ts';

/** Where a capsule sees its run folder. */
const runMount = '/run/torpor';
const runKey = 'torpor';

/** CRIU's `external` for a dump: mount point to key. */
export function dumpMounts(capsule: CapsuleSpec): string[] {
  return [
    external.mountAtDump(runMount, runKey),
    ...capsule.hostMounts.map(({ key, path }) => external.mountAtDump(path, key)),
  ];
}

/**
 * CRIU's `external` for a restore: key to the host's folder.
 * @param missing mount points that are none any more @param standIn an empty folder in their place
 */
export function restoreMounts(
  capsule: CapsuleSpec,
  runFolder: string,
  missing: readonly string[],
  standIn: string,
): string[] {
  const folderOf = (path: string) => (missing.includes(path) ? standIn : hostFolder(capsule, path));
  return [
    external.mountAtRestore(runKey, runFolder),
    ...capsule.hostMounts.map(({ key, path }) => external.mountAtRestore(key, folderOf(path))),
  ];
}

/** What the machine that a workload came from had mounted there is a folder of its root now. */
const hostFolder = ({ layer, root }: CapsuleSpec, path: string) =>
  layer === undefined ? path : join(root, path);

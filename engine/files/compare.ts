/** What has become of the recorded files while the application was suspended. */
import type { BigIntStats } from 'node:fs';
import { FileHashes } from './hashes.ts';
import { type Package, packageOf } from './packages.ts';
import { type CapsuleView, hostPath, pathBytes } from './paths.ts';
import {
  type FileRecord,
  isKeptCopy,
  type RecordedFile,
  type RecordedFolder,
  statOrNothing,
} from './record.ts';

export type Change =
  | { kind: 'program-replaced'; path: string; record: RecordedFile; package?: Package | undefined }
  | { kind: 'program-missing'; path: string; record: RecordedFile; package?: Package | undefined }
  | {
      kind: 'mapped-data-replaced';
      path: string;
      record: RecordedFile;
      missing: boolean;
      package?: Package | undefined;
    }
  | { kind: 'document-changed'; path: string; record: RecordedFile; oldSize: number; newSize: number }
  /** `canRecreate`: it was open for writing, so an empty one in its place loses nothing that is still there. */
  | { kind: 'document-missing'; path: string; record: RecordedFile; canRecreate: boolean }
  /** Of what is otherwise the same; CRIU would refuse it. */
  | { kind: 'permissions-changed'; path: string; record: RecordedFile | RecordedFolder }
  | { kind: 'folder-missing'; path: string; record: RecordedFolder };

/** Compares records with the files now. Those that are the same are left out; a file put back as it was is the same. */
export async function compareFiles(records: readonly FileRecord[], view: CapsuleView): Promise<Change[]> {
  const hashes = new FileHashes();
  const changes = await Promise.all(
    records.map(async (record): Promise<Change | undefined> => {
      const host = await hostPath(view, pathBytes(record)).catch(() => undefined);
      const now = host && (await statOrNothing(host));
      if (record.kind !== 'file') return compareFolder(record, now);
      if (isKeptCopy(record)) return { ...mappedDataReplaced(record), missing: true };
      if (host === undefined || now === undefined || !now.isFile()) return missing(record, view);
      if (await hasSameContents(record, host, now, hashes)) return comparePermissions(record, now);
      return replaced(record, now, view);
    }),
  );
  return changes.filter((change) => change !== undefined);
}

async function hasSameContents(
  record: RecordedFile,
  host: Buffer,
  now: BigIntStats,
  hashes: FileHashes,
): Promise<boolean> {
  if (String(now.size) !== record.size) return false;
  // The number of a device may be another one after a reboot.
  const sameTimes = String(now.mtimeNs) === record.mtimeNs && String(now.ctimeNs) === record.ctimeNs;
  if (sameTimes && String(now.ino) === record.ino) return true;
  // Permissions and names change ctime alone.
  if (record.sha256 === undefined) {
    return String(now.mtimeNs) === record.mtimeNs && String(now.ino) === record.ino;
  }
  return (await hashes.hash(host, now).catch(() => undefined)) === record.sha256;
}

function comparePermissions(record: RecordedFile | RecordedFolder, now: BigIntStats): Change | undefined {
  const isSame = (Number(now.mode) & 0o7777) === record.mode;
  return isSame ? undefined : { kind: 'permissions-changed', path: record.path, record };
}

function compareFolder(record: RecordedFolder, now: BigIntStats | undefined): Change | undefined {
  if (now?.isDirectory()) return comparePermissions(record, now);
  return { kind: 'folder-missing', path: record.path, record };
}

const mappedDataReplaced = (record: RecordedFile) =>
  ({ kind: 'mapped-data-replaced', path: record.path, record, missing: false }) as const;

async function missing(record: RecordedFile, view: CapsuleView): Promise<Change> {
  const { path, role, writable } = record;
  if (role === 'document') return { kind: 'document-missing', path, record, canRecreate: writable };
  const owner = { package: await packageOf(path, view.root) };
  if (role === 'mapped-data') return { ...mappedDataReplaced(record), missing: true, ...owner };
  return { kind: 'program-missing', path, record, ...owner };
}

async function replaced(record: RecordedFile, now: BigIntStats, view: CapsuleView): Promise<Change> {
  const { path, role } = record;
  if (role === 'document') {
    const sizes = { oldSize: Number(record.size), newSize: Number(now.size) };
    return { kind: 'document-changed', path, record, ...sizes };
  }
  const owner = { package: await packageOf(path, view.root) };
  if (role === 'mapped-data') return { ...mappedDataReplaced(record), ...owner };
  return { kind: 'program-replaced', path, record, ...owner };
}

/** What the manifest of a workload that came with a bundle says on this machine. */
import { lstat } from 'node:fs/promises';
import { z } from 'zod';
import type { Manifest, ManifestBody } from '../../proto/manifest.ts';
import type { User } from '../capsule/users.ts';
import type { FileHashes } from '../files/hashes.ts';
import { hostPath, pathBytes } from '../files/paths.ts';
import { type FileRecord, fileRecordSchema } from '../files/record.ts';
import type { Bundled } from './contents.ts';

export interface Here {
  workload: string;
  /** Ids of all workloads of the bundle: as they were, and here. */
  ids: ReadonlyMap<string, string>;
  user: User;
  /** Undefined at home. */
  layer: string | undefined;
  /** Of the capsule. */
  root: string;
  /** What its memory takes in packs. */
  storedBytes: number;
}

export async function importedBody(bundled: Bundled, here: Here, hashes: FileHashes): Promise<ManifestBody> {
  const { workload, ids, storedBytes } = here;
  const {
    // Of the other machine, and its store.
    id: _id,
    version: _version,
    files: _files,
    encryption: _encryption,
    isLocked: _isLocked,
    parent: _parent,
    connectionLock: _connectionLock,
    atInterval: _atInterval,
    session,
    sharedPipes,
    externalSockets,
    pages,
    ...manifest
  } = bundled.manifest;
  const idOf = (id: string) => ids.get(id) ?? id;
  return {
    ...withKind(bundled, here, manifest),
    workload,
    surroundings: await recordsHere(bundled, here, hashes),
    ...(pages && { pages: { ...pages, storedBytes } }),
    ...(session && {
      session: {
        ...session,
        members: session.members.map((each) => ({ ...each, workload: idOf(each.workload) })),
      },
    }),
    ...(sharedPipes && {
      sharedPipes: sharedPipes.map((pipe) => ({ ...pipe, workloads: pipe.workloads.map(idOf) })),
    }),
    ...(externalSockets && {
      externalSockets: externalSockets.map((socket) =>
        socket.decision === 'session' ? { ...socket, workload: idOf(socket.workload) } : socket,
      ),
    }),
  } as unknown as ManifestBody;
}

/** Whose it is here, and on which root. Its home stays where the application knows it. */
function withKind({ origin }: Bundled, { user, layer, root }: Here, manifest: Partial<Manifest>): object {
  if (manifest.kind === 'job') {
    const { home } = manifest.job?.user ?? origin.user;
    return { ...manifest, job: { ...manifest.job, user: { ...user, home } } };
  }
  if (manifest.kind !== 'capsule' || manifest.capsule === undefined) return manifest;
  const { layer: _before, ...capsule } = manifest.capsule;
  if (layer === undefined) {
    const { hostMounts } = origin;
    return { ...manifest, capsule: { ...capsule, user, root: origin.root, hostMounts } };
  }
  const { home } = capsule.user;
  return {
    ...manifest,
    capsule: { ...capsule, user: { ...user, home }, root, layer: { id: layer, origin } },
  };
}

/** The records of its files as these are here: what was unpacked is what it had, and so is what was here already. */
async function recordsHere(
  { manifest, layer }: Bundled,
  { user, root }: Here,
  hashes: FileHashes,
): Promise<FileRecord[]> {
  const records = z.array(fileRecordSchema).parse(manifest.surroundings);
  const then = manifest.kind === 'capsule' ? manifest.capsule.user : manifest.job.user;
  const known = new Map(layer.map((entry) => [entry.path, entry]));
  return Promise.all(
    records.map(async (record) => {
      const owned = record.uid === then.uid ? { ...record, uid: user.uid, gid: user.gid } : { ...record };
      if (record.kind !== 'file') return owned;
      const entry = known.get(record.path);
      const host = await hostPath({ root }, pathBytes(record)).catch(() => undefined);
      const there = host && (await lstat(host, { bigint: true }).catch(() => undefined));
      if (
        entry?.kind !== 'file' ||
        host === undefined ||
        !there?.isFile() ||
        Number(there.size) !== entry.bytes
      )
        return owned;
      if ((await hashes.hash(host, there).catch(() => undefined)) !== entry.sha256) return owned;
      return {
        ...owned,
        ...{ dev: String(there.dev), ino: String(there.ino), size: String(there.size) },
        ...{ mtimeNs: String(there.mtimeNs), ctimeNs: String(there.ctimeNs) },
        ...{ uid: Number(there.uid), gid: Number(there.gid), mode: Number(there.mode) & 0o7777 },
      } as FileRecord;
    }),
  );
}

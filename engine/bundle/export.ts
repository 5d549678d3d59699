/**
 * Writing snapshots into a bundle. The engine says what goes into it and who may read it: memory and CRIU's images are read
 * as root, the user's files and libraries as the user, and the medium is written as the user, by programs that pass
 * chunks to each other. The bundle counts once all of it is synced and read back; nothing is given up for it here.
 */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { ExportOptions, ExportResult, Finding } from '../../api/types.ts';
import { makePlainPipe } from '../../native/pipe.ts';
import { version } from '../../package.json';
import { type Manifest, type Origin, plainVersion, specOf } from '../../proto/manifest.ts';
import type { User } from '../capsule/users.ts';
import type { Installation } from '../installation.ts';
import { isEncryptedFile } from '../store/encryption/plain-folders.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import { checkImages } from './checks/check-images.ts';
import { type PackSource, packSources } from './chunk-programs.ts';
import { type Base, type Bundled, type Contents, contentsVersion, type LayerEntry } from './contents.ts';
import { type Gathered, gatherFiles, type WantedFile } from './gather.ts';
import type { Layers } from './layers.ts';
import { machineId } from './machine.ts';
import { MediumProgram, type ProgressOf, type Source } from './medium-program.ts';
import { ownFiles } from './over-machine.ts';
import type { PortableFile } from './portable.ts';

const pageBytes = 4096;

export interface ExportParts {
  installation: Installation;
  store: SnapshotStore;
  layers: Layers;
}

export interface ExportJob {
  snapshots: readonly Manifest[];
  options: ExportOptions;
  /** Who writes it. */
  writer: User;
  /** Torpor itself, to lie beside it. */
  engine: readonly PortableFile[];
  progress: ProgressOf;
  signal: AbortSignal;
}

export type Written = Pick<
  ExportResult,
  'form' | 'generation' | 'bytes' | 'bytesWritten' | 'memoryBytes' | 'findings'
>;

/** What of one workload goes into the stream, in this order. */
interface Member {
  manifest: Manifest;
  /** Where its files lie as they are; the lists of its memory lie in `stored` only where it is encrypted. */
  contents: string;
  stored: string;
  gathered: Gathered;
  base: Base | undefined;
  origin: Origin;
}

/**
 * @throws TorporError for what keeps it from being written; a bundle that was there before is as it was then.
 */
export async function writeBundle(parts: ExportParts, job: ExportJob): Promise<Written> {
  const { store, layers } = parts;
  const opened: AsyncDisposable[] = [];
  try {
    const members: Member[] = [];
    for (const manifest of job.snapshots) {
      await store.verifyBeforeRestore(manifest, () => {});
      opened.push(await store.open(manifest));
      members.push(await gatherMember(parts, manifest, job.options.data));
    }
    return await writeMembers(parts, members, job);
  } finally {
    for (const each of opened) await each[Symbol.asyncDispose]();
    for (const { layer } of job.snapshots.map(layerOf))
      if (layer !== undefined) await layers.unmount(layer.id);
  }
}

const layerOf = (manifest: Manifest) =>
  manifest.kind === 'capsule' ? manifest.capsule : { layer: undefined };

/** What every machine would refuse is said while it is still at home. @throws TorporError `blocked` */
async function refuseUnwelcome(images: string, manifest: Manifest): Promise<void> {
  try {
    await checkImages(images, manifest);
  } catch (error) {
    if (!(error instanceof TorporError) || typeof error.details.refused !== 'string') throw error;
    throw new TorporError(
      'blocked',
      `${manifest.name} cannot be taken along: ${error.details.refused}, and no machine takes that in. Nothing was written; it is suspended here.`,
      `Go on with it here: \`torpor resume ${manifest.name}\`.`,
    );
  }
}

async function gatherMember(
  { store, layers }: ExportParts,
  manifest: Manifest,
  chosen: readonly string[],
): Promise<Member> {
  if (manifest.pages === undefined)
    throw new TorporError(
      'failed',
      `Snapshot ${manifest.id} of ${manifest.name} is of a version of Torpor whose snapshots cannot be exported.`,
      `Resume and suspend it once: \`torpor resume ${manifest.name}\`, \`torpor suspend ${manifest.name}\`.`,
    );
  const contents = store.contentFolderOf(manifest.id);
  await refuseUnwelcome(join(contents, 'images'), manifest);
  const spec = specOf(manifest);
  const { layer } = layerOf(manifest);
  if (layer !== undefined) await layers.mount(layer.id, spec.user);
  const root = manifest.kind === 'capsule' ? manifest.capsule.root : '/';
  const gathered = await gatherFiles(
    manifest,
    join(contents, 'images'),
    { root },
    {
      chosen,
      changes: layer === undefined ? undefined : layers.changesOf(layer.id),
    },
  );
  return {
    manifest,
    contents,
    stored: store.folderOf(manifest.id),
    gathered,
    base: layer === undefined ? undefined : await layers.baseOf(layer.id),
    origin: layer?.origin ?? {
      machine: await machineId(store.stateDir),
      workload: manifest.workload,
      user: spec.user,
      root,
      hostMounts: manifest.kind === 'capsule' ? manifest.capsule.hostMounts : [],
      hostname: manifest.kind === 'capsule' ? manifest.capsule.hostname : '',
    },
  };
}

async function writeMembers(
  { installation, store, layers }: ExportParts,
  members: readonly Member[],
  { options, writer, engine, progress, signal }: ExportJob,
): Promise<Written> {
  const pipe = makePlainPipe();
  const ends = new Set([pipe.read, pipe.write]);
  const closeEnd = (end: number) => {
    if (ends.delete(end)) closeSync(end);
  };
  const written = new AbortController();
  const both = AbortSignal.any([signal, written.signal]);
  try {
    await using medium = new MediumProgram(installation, writer, pipe.read, progress, both, engine);
    closeEnd(pipe.read);
    const ready = await medium.write({ ...options, expected: expectedBytes(members) });
    const known = await medium.knownChunks();
    const sources = medium.sources(members.reduce((sum, member) => sum + sourcesOf(member).all.length, 0));
    sources.catch((error: unknown) => written.abort(error));
    const packing = {
      ...{ program: installation.pages, stateDir: store.stateDir, known, output: pipe.write, signal: both },
      keys: store.encryption.forPrograms(),
    };
    for (const member of members) {
      const { own, files } = sourcesOf(member);
      await packSources(own, packing);
      await packSources(files, { ...packing, keys: undefined, user: specOf(member.manifest).user });
    }
    closeEnd(pipe.write);
    const { contents, findings } = describe(members, await sources);
    const { bytes, written: bytesWritten, generation } = await medium.commit(contents);
    for (const [index, { manifest }] of members.entries())
      await noteExported(layers, layerOf(manifest).layer?.id, contents.workloads[index]);
    const memoryBytes = members.reduce((sum, { manifest }) => sum + manifest.memoryBytes, 0);
    return { form: ready.form, generation, bytes, bytesWritten, memoryBytes, findings };
  } finally {
    for (const end of ends) closeSync(end);
  }
}

/** What its user has in the layer is in the bundle now, too. */
async function noteExported(
  layers: Layers,
  id: string | undefined,
  bundled: Bundled | undefined,
): Promise<void> {
  const outlet = id === undefined ? undefined : await layers.outletOf(id);
  if (id === undefined || outlet === undefined || bundled === undefined) return;
  await layers.writeOutlet(id, { ...outlet, safe: ownFiles(bundled.layer) });
}

function expectedBytes(members: readonly Member[]): number {
  const bytes = members.flatMap(({ manifest, gathered }) => [
    ...manifest.files.map((file) => file.bytes),
    ...gathered.files.map((file) => file.bytes),
    ((manifest.pages?.pages ?? 0) - (manifest.pages?.zeroPages ?? 0)) * pageBytes,
  ]);
  return bytes.reduce((sum, each) => sum + each, 0);
}

/** The lists of an encrypted snapshot's chunks are by a key that stays here; they are made anew of the memory's. */
const isChunkList = (path: string) => path === 'pages/chunks';

const filesOf = ({ manifest }: Member) => manifest.files.filter(({ path }) => !isChunkList(path));

function sourcesOf(member: Member): { own: PackSource[]; files: PackSource[]; all: PackSource[] } {
  const own: PackSource[] = [
    ...filesOf(member).map(({ path }) => ({
      kind: 'file' as const,
      path: Buffer.from(join(isEncryptedFile({ path }) ? member.contents : member.stored, path)),
    })),
    { kind: 'memory', snapshotFolder: member.stored },
  ];
  const files = member.gathered.files.map(({ host }) => ({ kind: 'file' as const, path: host }));
  return { own, files, all: [...own, ...files] };
}

/** What the catalogue says, and what is to be said of it. Sources are numbered over all members. */
function describe(
  members: readonly Member[],
  sources: readonly Source[],
): { contents: Contents; findings: Finding[] } {
  let next = 0;
  const take = (): Source => {
    const source = sources[next++];
    if (source === undefined) throw new Error('a source of the bundle has no answer');
    return source;
  };
  const findings: Finding[] = [];
  const workloads = members.map((member): Bundled => {
    const files = filesOf(member).map(({ path, sha256 }) => {
      const source = take();
      // What is encrypted at rest has been checked when it was decrypted.
      const isDecrypted = member.manifest.encryption !== undefined && isEncryptedFile({ path });
      if (source.event !== 'list' || !(isDecrypted || source.sha256 === sha256))
        throw new TorporError(
          'failed',
          `${path} of snapshot ${member.manifest.id} could not be read as it was written.`,
          'Check it with `torpor verify --read-data`; an earlier snapshot may still be good.',
        );
      return { path, list: source.source };
    });
    const memory = take();
    if (memory.event !== 'list')
      throw new TorporError(
        'failed',
        `The memory of ${member.manifest.name} could not be read from its snapshot ${member.manifest.id}: ${memory.what}.`,
        'Check it with `torpor verify --read-data`; an earlier snapshot may still be good.',
      );
    const layer: LayerEntry[] = [...member.gathered.others];
    for (const file of member.gathered.files) {
      const source = take();
      if (source.event === 'list') layer.push(fileEntry(member, file, source));
      else findings.push(unreadable(file, source.what));
    }
    findings.push(...member.gathered.findings);
    return {
      manifest: plainManifest(member.manifest),
      files,
      memory: memory.source,
      layer,
      origin: member.origin,
      base: member.base ?? ownFiles(layer),
    };
  });
  const contents = {
    version: contentsVersion,
    writtenAt: new Date().toISOString(),
    engine: version,
    workloads,
  };
  return { contents: contents as Contents, findings };
}

function fileEntry(
  { manifest }: Member,
  { path, role, mode, owner, mtimeNs, expected }: WantedFile,
  { source, bytes, sha256 }: Extract<Source, { event: 'list' }>,
): LayerEntry {
  if (expected !== undefined && expected !== sha256)
    throw new TorporError(
      'blocked',
      `${path}, which ${manifest.name} has in memory, was changed after it was suspended: on another machine it could not go on.`,
      `Resume it here (\`torpor resume ${manifest.name}\` says what it needs), start it anew, and export it then.`,
    );
  return { kind: 'file', path, role, list: source, bytes, sha256, mode, owner, mtimeNs };
}

function unreadable({ path, owner }: WantedFile, what: string): Finding {
  return {
    tie: 'file',
    verdict: 'degraded',
    by: 'engine',
    what: `${path} does not go into the bundle: ${what}.`,
    hint:
      owner === 'user'
        ? 'Make it readable for yourself and export again, or do without it there.'
        : 'Where another machine has another one, the application may not resume there.',
  };
}

/** The manifest as it would be without encryption at rest. */
function plainManifest({ encryption, isLocked, ...manifest }: Manifest): Manifest {
  return { ...manifest, version: plainVersion } as Manifest;
}

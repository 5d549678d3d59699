/**
 * Taking a bundle in. It is a stranger's memory image that root is asked to run, so nothing of it is believed: the medium
 * program authenticates it as the user, `torpor-pages import` decodes it within bounds and writes beneath one folder only,
 * and then every process, mount and open file in it is compared with what the importing user could have started
 * (checks/). Only when all workloads have passed is the first of them put into the store.
 */
import { closeSync } from 'node:fs';
import { copyFile, mkdir, readdir, rm, statfs, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { Finding, ImportResult } from '../../api/types.ts';
import { makePlainPipe } from '../../native/pipe.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import type { User } from '../capsule/users.ts';
import type { FileHashes } from '../files/hashes.ts';
import type { Installation } from '../installation.ts';
import { PagesError } from '../store/pages-program.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { Stage } from '../store/stage.ts';
import { refuseOtherCpu } from '../transaction/cpu.ts';
import { noSpace } from '../transaction/no-space.ts';
import { checkImages } from './checks/check-images.ts';
import { limitsHere } from './checks/limits.ts';
import { mapIdentity } from './checks/map-identity.ts';
import { type Unpacking, unpackStream } from './chunk-programs.ts';
import { type Bundled, type Contents, parseContents } from './contents.ts';
import { bringHome, type HomeDocument } from './home.ts';
import type { Layers } from './layers.ts';
import { importedBody } from './mapped-manifest.ts';
import { type ListInfo, MediumProgram, type ProgressOf } from './medium-program.ts';
import {
  changedSince,
  fillLayer,
  hideForeign,
  isMapped,
  type LayerPlan,
  ownFiles,
  planLayer,
  prepareMountPoints,
  refuseInOwnFolders,
} from './over-machine.ts';

export interface ImportParts {
  installation: Installation;
  store: SnapshotStore;
  layers: Layers;
  hashes: FileHashes;
}

export interface ImportJob {
  path: string;
  passphrase: string;
  /** Whose a workload becomes. */
  userFor: (bundled: Bundled) => Promise<User>;
  /** As whom the medium is read. */
  reader: User;
  /** By which the engine knows its own bundles. */
  machine: string;
  /** The id that a workload of the bundle gets here. */
  idFor: (bundled: Bundled, isHome: boolean, user: User) => string;
  progress: ProgressOf;
  signal: AbortSignal;
}

/** One that is in the store now. */
export interface TakenIn {
  isHome: boolean;
  manifest: Manifest;
}

export interface Imported extends Pick<ImportResult, 'generation' | 'isHome' | 'documents' | 'findings'> {
  taken: TakenIn[];
}

/** A workload in the making. */
interface Member {
  bundled: Bundled;
  user: User;
  workload: string;
  isHome: boolean;
  plan: LayerPlan;
  layer: string | undefined;
  stage: Stage;
  storedBytes: number;
}

/** A bundle that has been opened once. */
interface Opened {
  key: string;
  generation: number;
  passedOver: number | null;
  bytes: number;
  lists: readonly (ListInfo | null)[];
  contents: Contents;
}

/** @throws TorporError for whatever is wrong with it; nothing of it is left here then. */
export async function readBundle(parts: ImportParts, job: ImportJob): Promise<Imported> {
  const { store, layers } = parts;
  const opened = await openBundle(parts, job);
  for (const { manifest } of opened.contents.workloads) await refuseOtherCpu(manifest);
  const members: Member[] = [];
  try {
    for (const bundled of opened.contents.workloads) {
      if (bundled.manifest.kind === 'capsule') refuseInOwnFolders(bundled.layer);
      const user = await job.userFor(bundled);
      const isHome = isAtHome(bundled, user, job.machine);
      const plan = await planLayer(bundled.manifest, bundled, isHome, user, parts.hashes);
      members.push({
        ...{ bundled, user, isHome, plan, storedBytes: 0 },
        workload: job.idFor(bundled, isHome, user),
        stage: await store.stage(),
        layer: plan.kind === 'over' || plan.files.length > 0 ? await layers.make() : undefined,
      });
    }
    await refuseWithoutRoom(store.stateDir, opened, members);
    for (const member of members) await readMember(parts, job, opened, member);
    return await takeIn(parts, opened, members);
  } catch (error) {
    for (const { stage, layer } of members) {
      if (store.isStaged(stage.id)) await store.discard(stage);
      if (layer !== undefined) await layers.remove(layer);
    }
    throw inWords(error, job.path);
  } finally {
    for (const { stage, layer } of members) {
      // What is encrypted in the store still lies in memory as it was unpacked.
      await store.settle(stage.id);
      if (layer !== undefined) layers.made(layer);
    }
  }
}

async function openBundle(parts: ImportParts, job: ImportJob): Promise<Opened> {
  const pipe = makePlainPipe();
  try {
    await using medium = new MediumProgram(
      parts.installation,
      job.reader,
      pipe.write,
      job.progress,
      job.signal,
    );
    const { key, generation, passedOver, bytes, lists, contents } = await medium.open(job.path, {
      passphrase: job.passphrase,
    });
    await medium.check();
    return { key, generation, passedOver, bytes, lists, contents: parseContents(contents, job.path) };
  } finally {
    closeSync(pipe.read);
    closeSync(pipe.write);
  }
}

/** What came from this machine's engine, for the user whose it was. */
const isAtHome = ({ origin }: Bundled, user: User, machine: string) =>
  origin.machine === machine && origin.user.uid === user.uid && origin.user.name === user.name;

/** Room for everything as it is in the bundle, and for files as they are unpacked. */
async function refuseWithoutRoom(
  stateDir: string,
  { bytes, lists }: Opened,
  members: readonly Member[],
): Promise<void> {
  const files = members.flatMap(({ bundled, plan }) => [...bundled.files, ...plan.files]);
  const needed = files.reduce((sum, { list }) => sum + (lists[list]?.bytes ?? 0), bytes);
  const disk = await statfs(stateDir);
  const free = disk.bavail * disk.bsize;
  if (free >= needed) return;
  const inMiB = (amount: number) => `${Math.ceil(amount / 1024 ** 2)} MiB`;
  throw new TorporError(
    'failed',
    `The state folder ${stateDir} has room for ${inMiB(free)}, and the bundle needs ${inMiB(needed)}. Nothing was imported.`,
    'Free some space (`torpor snapshots`, `torpor rm`, `torpor gc`), or move the state folder with TORPOR_STATE_DIR.',
  );
}

/** Puts its snapshot into the stage, and its files over the machine's. */
async function readMember(parts: ImportParts, job: ImportJob, opened: Opened, member: Member): Promise<void> {
  const { bundled, user, isHome, stage, layer, plan } = member;
  const { layers } = parts;
  const folders = new Set(bundled.files.map(({ path }) => dirname(path)).filter((path) => path !== '.'));
  const ofSnapshot = [
    ...[...folders].map((path) => ({ task: 'folder', path, mode: 0o700, owner: 'root' })),
    ...bundled.files.map(({ path, list }) => ({
      ...{ task: 'file', list, path },
      ...{ mode: 0o600, owner: 'root', mtimeNs: '0' },
    })),
    ...(bundled.memory === undefined
      ? []
      : [
          { task: 'memory', list: bundled.memory },
          { task: 'chunkList', list: bundled.memory, path: 'pages/chunks' },
        ]),
  ];
  member.storedBytes = await withPlainLists(stage, () =>
    unpack(parts, job, opened, ofSnapshot, { into: stage.folder, packs: stage.packs, keys: stage.keys }),
  );
  await checkImages(stage.images, bundled.manifest);
  const limits = await limitsHere();
  await mapIdentity(stage.images, { from: specOf(bundled.manifest).user, to: user, limits });
  if (layer === undefined) return;
  if (plan.kind === 'over') await hideForeign(layers.changesOf(layer), bundled.layer, user);
  const into = plan.kind === 'over' ? await layers.mount(layer, user) : layers.changesOf(layer);
  const ofFiles = await fillLayer(bundled.layer, plan, into);
  await unpack(parts, job, opened, ofFiles, { into, owner: user });
  if (plan.kind === 'home') return;
  const { name } = bundled.manifest;
  const homeRoot = isHome ? bundled.origin.root : undefined;
  await layers.writeOutlet(layer, { uid: user.uid, name, homeRoot, safe: ownFiles(bundled.layer) });
  if (bundled.manifest.kind === 'capsule')
    await prepareMountPoints(
      into,
      bundled.manifest.capsule.hostMounts.map(({ path }) => path),
    );
  await layers.writeBase(layer, bundled.base);
}

type Task = Readonly<Record<string, unknown>>;

/** Has the medium send what the tasks name, and makes files of it. @returns the bytes of memory that were stored. */
async function unpack(
  { installation }: ImportParts,
  job: ImportJob,
  { key }: Opened,
  tasks: readonly Task[],
  where: Pick<Unpacking, 'into' | 'owner' | 'packs' | 'keys'>,
): Promise<number> {
  const pipe = makePlainPipe();
  const ends = new Set([pipe.read, pipe.write]);
  const closeEnd = (end: number) => {
    if (ends.delete(end)) closeSync(end);
  };
  try {
    await using medium = new MediumProgram(installation, job.reader, pipe.write, job.progress, job.signal);
    closeEnd(pipe.write);
    await medium.open(job.path, { key });
    const unpacking = unpackStream({
      ...{ program: installation.pages, input: pipe.read, signal: job.signal },
      ...where,
    });
    unpacking.catch(() => {});
    closeEnd(pipe.read);
    // What the medium says is wrong with it is why the stream was cut off.
    await medium.send(tasks);
    return await unpacking;
  } finally {
    for (const end of ends) closeSync(end);
  }
}

/** In the stage of an encrypted snapshot the lists of pages lie elsewhere, and nothing is unpacked through a link. */
async function withPlainLists<T>(stage: Stage, work: () => Promise<T>): Promise<T> {
  if (stage.key === undefined) return work();
  const inMemory = join(stage.folder, 'pages');
  await rm(inMemory);
  await mkdir(inMemory, { mode: 0o700 });
  const result = await work();
  for (const name of await readdir(inMemory)) await copyFile(join(inMemory, name), join(stage.pages, name));
  await rm(inMemory, { recursive: true });
  await symlink(stage.pages, inMemory);
  return result;
}

/** Puts all of them into the store; from here on a failure takes those away again that were there already. */
async function takeIn(
  { store, layers, hashes }: ImportParts,
  { generation, passedOver, contents }: Opened,
  members: readonly Member[],
): Promise<Imported> {
  const ids = new Map(members.map(({ bundled, workload }) => [bundled.manifest.workload, workload]));
  const taken: TakenIn[] = [];
  const documents: HomeDocument[] = [];
  for (const { bundled, user, isHome, plan, layer } of members) {
    if (!isHome || layer === undefined) continue;
    const { origin, base, manifest } = bundled;
    const home = { root: origin.root, base, date: manifest.takenAt };
    const from = plan.kind === 'home' ? layers.changesOf(layer) : layers.rootOf(layer);
    documents.push(...(await bringHome(home, changedSince(base, plan.files), from, user, hashes)));
  }
  try {
    for (const { bundled, user, workload, isHome, plan, layer, stage, storedBytes } of members) {
      const here = {
        ...{ workload, ids, storedBytes, user },
        ...(plan.kind === 'over' && layer !== undefined
          ? { layer, root: layers.rootOf(layer) }
          : { layer: undefined, root: bundled.origin.root }),
      };
      const body = await importedBody(bundled, here, hashes);
      const manifest = await store.commit(stage, () => body);
      taken.push({ isHome, manifest });
      await store.verify(manifest.id, 'nothing');
    }
  } catch (error) {
    for (const { manifest } of taken) await store.remove(manifest.id);
    throw error;
  }
  for (const { layer, plan } of members)
    if (layer !== undefined) await (plan.kind === 'over' ? layers.unmount(layer) : layers.remove(layer));
  const findings = members.filter(({ isHome, plan }) => isHome && plan.kind === 'over').map(goesOnApart);
  if (passedOver !== null)
    findings.push({
      tie: 'bundle',
      verdict: 'degraded',
      by: 'engine',
      what: `The last export into this bundle was not completed; this is the one before it, of ${contents.writtenAt}.`,
      hint: 'What was done since then is where it was exported.',
    });
  return {
    ...{ generation, taken, documents, findings },
    isHome: members.some(({ isHome }) => isHome),
  };
}

/** Of what is at home, but has files mapped that are others here. */
function goesOnApart({ bundled, plan }: Member): Finding {
  const other = plan.files.find(isMapped)?.path ?? 'files';
  return {
    tie: 'bundle',
    verdict: 'degraded',
    by: 'engine',
    what: `${bundled.manifest.name} goes on with ${other} of the other machine, and so with files of its own: what it writes from now on comes home when it has ended.`,
    hint: 'To have it here at once, end the application when its documents are saved.',
  };
}

/** What a program says of the stream, as a sentence about the bundle. */
function inWords(error: unknown, path: string): unknown {
  if (!(error instanceof PagesError)) return noSpace(error) ?? error;
  return (
    noSpace(error) ??
    new TorporError(
      'failed',
      `The bundle ${path} was not imported: ${error.message}.`,
      'Nothing of it was started. If it was not changed on purpose, export it again.',
    )
  );
}

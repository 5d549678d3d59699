/**
 * Before a restore: finds what has become of the application's files meanwhile (engine/files), puts right what can be
 * put right, and refuses, by name, what would make the application fail or work with wrong data.
 */
import { constants } from 'node:fs';
import { chmod, chown, copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { type CapsuleSpec, type Manifest, specOf } from '../../proto/manifest.ts';
import { identityOptions, runCommand } from '../command.ts';
import { type Images, readImages } from '../criu/images.ts';
import { type Change, compareFiles } from '../files/compare.ts';
import type { KeptFiles } from '../files/kept-files.ts';
import type { Package } from '../files/packages.ts';
import {
  type CapsuleView,
  hostPath,
  keptFolder,
  keptHash,
  pathBytes,
  type RecordedPath,
} from '../files/paths.ts';
import {
  fileRecordSchema,
  isKeptCopy,
  type RecordedFile,
  type RecordedFolder,
  statOrNothing,
} from '../files/record.ts';
import { holdRemaps } from '../files/remaps.ts';
import { type RegFileChange, rewriteRegFiles } from '../files/rewrite.ts';
import { type Mount, mountOf, readMounts } from '../mounts.ts';
import type { ResumePlace } from './place.ts';

/** CRIU writes it only where an application had files open whose names were gone. */
const remapImage = 'images/remap-fpath.img';

export interface Prepared {
  findings: Finding[];
  /** Images that CRIU shall read instead of those in the snapshot, by name. */
  rewritten: Map<string, Buffer>;
  /** To be called when the restore has ended, one way or the other. */
  afterwards: () => Promise<void>;
}

/** Whose workload it is. */
type Owner = Pick<CapsuleSpec, 'user'>;

type Of<K extends Change['kind']> = Extract<Change, { kind: K }>;

type PlacedFile = NonNullable<RegFileChange['movedTo']>;

/** What an application goes on without having it anew. */
interface Replaced {
  path: string;
  missing: boolean;
  package: Package | undefined;
}

/** What to do about a change. */
type Plan =
  | { kind: 'refuse'; sentence: string; hint: string }
  | { kind: 'use-kept'; record: RecordedFile; kept: string; finding?: Finding }
  | { kind: 'use-kept-file'; record: RecordedFile; at: PlacedFile; replaced: Replaced }
  | { kind: 'forget'; record: RecordedPath; what: RegFileChange; finding: Finding }
  | { kind: 'recreate'; record: RecordedFile | RecordedFolder; finding: Finding };

/**
 * Makes the surroundings fit for a restore. Nothing is changed unless everything fits.
 * @param imagesDir CRIU's images, verified already.
 * @param place its run folder is there already; copies of files are put into it.
 * @param snapshotFolder has the copies that were kept.
 * @param keptFiles has what was kept when packages were replaced.
 * @throws TorporError `blocked`, naming the file and its package; `failed` where an image is damaged.
 */
export async function prepareSurroundings(
  manifest: Manifest,
  imagesDir: string,
  { runFolder, view }: Pick<ResumePlace, 'runFolder' | 'view'>,
  snapshotFolder: string,
  keptFiles: Pick<KeptFiles, 'pathFor'>,
): Promise<Prepared> {
  const records = z.array(fileRecordSchema).parse(manifest.surroundings);
  const changes = await compareFiles(records, view);
  if (changes.length === 0 && !hasRemaps(manifest))
    return { findings: [], rewritten: new Map(), afterwards: async () => {} };
  const images = await readImages(imagesDir);
  const mounts = await readMounts();
  const plans = await Promise.all(
    changes.map(async (change) => {
      const kept = await placeOfKept(change, keptFiles, view, images, mounts);
      return planFor(change, manifest.name, specOf(manifest), kept);
    }),
  );
  refuse(plans, changes);

  await holdRemaps(images, view, specOf(manifest), manifest.id);
  const rewrites = new Map<number, RegFileChange>();
  const findings: Finding[] = [];
  for (const plan of plans) {
    if (plan.kind === 'refuse') continue;
    if (plan.kind === 'recreate') await recreate(plan.record, view, specOf(manifest));
    if (plan.kind === 'use-kept') await placeKept(plan.record, plan.kept, runFolder, snapshotFolder);
    const change = rewriteFor(plan, images, view, runFolder);
    for (const id of regFileIds(images, plan.record)) rewrites.set(id, { ...rewrites.get(id), ...change });
    if (plan.kind !== 'use-kept-file' && plan.finding !== undefined) findings.push(plan.finding);
  }
  const replaced = plans.flatMap((plan) => (plan.kind === 'use-kept-file' ? plan.replaced : []));
  findings.push(...replacedFindings(replaced, manifest.name));
  const rewritten = new Map<string, Buffer>();
  if (rewrites.size > 0) {
    rewritten.set('files.img', rewriteRegFiles(await readFile(join(imagesDir, 'files.img')), rewrites));
  }
  const afterwards = () => holdRemaps(images, view, specOf(manifest), manifest.id);
  return { findings, rewritten, afterwards };
}

/** Whether the application had files open whose names were gone. */
export function hasRemaps({ files }: Pick<Manifest, 'files'>): boolean {
  return files.some(({ path }) => path === remapImage);
}

function refuse(plans: readonly Plan[], changes: readonly Change[]): void {
  const refusals = plans.filter((plan) => plan.kind === 'refuse');
  const [first] = refusals;
  if (first === undefined) return;
  const more = refusals.length > 1 ? ` The same goes for ${refusals.length - 1} more of its files.` : '';
  const files = changes
    .filter((_change, index) => plans[index]?.kind === 'refuse')
    .map(({ kind, path }) => ({ kind, path }));
  throw new TorporError('blocked', `${first.sentence}${more}`, first.hint, { files });
}

/**
 * Where the application finds the file that was kept of one that is not there any more; undefined where none was, and
 * where it could not reach it, as on a file system that its capsule has not.
 */
async function placeOfKept(
  change: Change,
  keptFiles: Pick<KeptFiles, 'pathFor'>,
  view: CapsuleView,
  images: Images,
  mounts: readonly Mount[],
): Promise<PlacedFile | undefined> {
  if (change.record.kind !== 'file') return undefined;
  const path = await keptFiles.pathFor(change.record);
  // A job sees the host's files.
  if (path === undefined || view.runFolder === undefined) return path === undefined ? undefined : { path };
  const inside = mountOf(
    images.mounts.map(({ id, mountPoint }) => ({ id, path: mountPoint.replace(/^\.(?=\/)/, '') })),
    path,
  );
  const isSame = inside !== undefined && inside.path === mountOf(mounts, path)?.path;
  if (!isSame || (await statOrNothing(await hostPath(view, Buffer.from(path)))) === undefined)
    return undefined;
  return { path, mountId: inside.id };
}

/** What to do about one change. Pure part of {@link prepareSurroundings}. @param kept the file as it was, if there is one. */
export function planFor(change: Change, name: string, owner: Owner, kept?: PlacedFile): Plan {
  switch (change.kind) {
    case 'program-replaced':
      if (kept !== undefined) return goOnWithKept(change, false, kept);
      return refusal(
        `${change.path}${ofPackage(change.package)} was replaced after ${name} was suspended.`,
        change,
      );
    case 'program-missing':
      if (kept !== undefined) return goOnWithKept(change, true, kept);
      return refusal(
        `${change.path}${ofPackage(change.package)} was removed after ${name} was suspended.`,
        change,
      );
    case 'mapped-data-replaced':
      return kept !== undefined && change.record.kept === undefined
        ? goOnWithKept(change, change.missing, kept)
        : planForData(change, name);
    case 'document-changed':
      return {
        kind: 'forget',
        record: change.record,
        what: { forgetContents: true, forgetMode: true },
        finding: documentChanged(change, name),
      };
    case 'document-missing':
      return planForMissing(change, name, owner);
    case 'permissions-changed':
      return {
        kind: 'forget',
        record: change.record,
        what: { forgetMode: true },
        finding: finding(
          'handled',
          `The permissions of ${change.path} were changed after ${name} was suspended.`,
        ),
      };
    case 'folder-missing':
      return planForFolder(change, name, owner);
  }
}

function goOnWithKept(
  change: Of<'program-replaced' | 'program-missing' | 'mapped-data-replaced'>,
  missing: boolean,
  at: PlacedFile,
): Plan {
  const { record, path, package: owner } = change;
  return { kind: 'use-kept-file', record, at, replaced: { path, missing, package: owner } };
}

/** One for each package, and one for all files of none, as those of a package that was removed. Pure. */
export function replacedFindings(replaced: readonly Replaced[], name: string): Finding[] {
  const groups = new Map<string, Replaced[]>();
  for (const each of replaced) {
    // What an earlier resume has put there, and is kept in another place now, is no news.
    if (keptHash(each.path) !== undefined) continue;
    const key = each.package?.name ?? '';
    groups.set(key, [...(groups.get(key) ?? []), each]);
  }
  return [...groups.values()].map((files) =>
    finding(
      'degraded',
      sentenceOnReplaced(files, name),
      'Close it and start it anew when convenient: until then it does without what the new version mends, also in security.',
    ),
  );
}

function sentenceOnReplaced(files: readonly Replaced[], name: string): string {
  const [{ path = '', package: owner } = {}] = files;
  const verb = files.every(({ missing }) => missing) ? 'removed' : 'replaced';
  const happened = `${verb} after ${name} was suspended`;
  const isOne = files.length === 1;
  if (owner !== undefined) {
    const count = isOne ? 'the file' : `the ${files.length} files`;
    return `The package ${owner.name} (${nowOf(owner)}) was ${happened}; it goes on with ${count} it had of the earlier one.`;
  }
  const others = files.length === 2 ? 'one more file' : `${files.length - 1} more files`;
  return isOne
    ? `${path} was ${happened}; it goes on with the one it had.`
    : `${path} and ${others} were ${happened}; it goes on with those it had.`;
}

const nowOf = ({ version }: Package) => (version === undefined ? 'not installed now' : `now ${version}`);

function ofPackage(owner: Package | undefined): string {
  if (owner === undefined) return '';
  return ` (package ${owner.name}, ${nowOf(owner)})`;
}

function refusal(
  sentence: string,
  { package: owner, path }: { package?: Package | undefined; path: string },
): Plan {
  if (keptHash(path) !== undefined) return { kind: 'refuse', ...keptIsGone(path) };
  const hint =
    owner === undefined
      ? `Put ${path} back as it was and resume again; the snapshot is kept.`
      : `Install the earlier version of ${owner.name} again (\`apt-get install ${owner.name}=VERSION\`; /var/log/dpkg.log has the version), resume, and upgrade afterwards; the snapshot is kept.`;
  return { kind: 'refuse', sentence, hint };
}

/** It is of an earlier version of a package, and nobody knows any more which. */
const keptIsGone = (path: string) => ({
  sentence: `${path}, which was kept of a package that was replaced, is damaged or gone.`,
  hint: 'Put it back from a backup of the state folder, or start the application anew; the snapshot is kept.',
});

function planForData(
  { path, record, missing, package: owner }: Of<'mapped-data-replaced'>,
  name: string,
): Plan {
  const happened = `was ${missing ? 'removed' : 'changed'} after ${name} was suspended`;
  if (record.kept === undefined)
    return refusal(`${path}${ofPackage(owner)}, which ${name} has in memory, ${happened}.`, {
      package: owner,
      path,
    });
  const plan = { kind: 'use-kept', record, kept: record.kept } as const;
  // What an earlier resume has replaced already is no news.
  if (isKeptCopy(record)) return plan;
  return {
    ...plan,
    finding: finding(
      'handled',
      `${path} ${happened}.`,
      'The application goes on with the copy that belongs to the snapshot, until it opens the file again.',
    ),
  };
}

function documentChanged({ path, record, oldSize, newSize }: Of<'document-changed'>, name: string): Finding {
  const how = oldSize === newSize ? '' : ` (${oldSize} bytes then, ${newSize} now)`;
  const hint =
    record.writable && !record.append
      ? 'Reload it in the application before you save, or what was changed may be overwritten.'
      : 'The application reads on in the file as it is now.';
  return finding('degraded', `${path} was changed after ${name} was suspended${how}.`, hint);
}

function planForMissing(
  { path, record, canRecreate }: Of<'document-missing'>,
  name: string,
  owner: Owner,
): Plan {
  const happened = `${path}, which ${name} had open, was removed after it was suspended`;
  if (!canRecreate || !mayMake(record, owner)) {
    return {
      kind: 'refuse',
      sentence: `${happened}.`,
      hint: 'Put it back, from the bin or a backup; any file of that name will do. The snapshot is kept.',
    };
  }
  return {
    kind: 'recreate',
    record,
    finding: finding(
      'degraded',
      `${happened}.`,
      'An empty file was made in its place; save your work again.',
    ),
  };
}

function planForFolder({ path, record }: Of<'folder-missing'>, name: string, owner: Owner): Plan {
  const use = { 'socket-folder': 'has a socket', 'working-folder': 'works', 'open-folder': 'has open' }[
    record.kind
  ];
  const happened = `The folder ${path}, ${record.kind === 'open-folder' ? `which ${name} ${use}` : `in which ${name} ${use}`}, is gone`;
  if (!mayMake(record, owner)) {
    return {
      kind: 'refuse',
      sentence: `${happened}.`,
      hint: `Make it again: \`mkdir -p ${path}\`. The snapshot is kept.`,
    };
  }
  const isHarmless = record.kind === 'socket-folder';
  return {
    kind: 'recreate',
    record,
    finding: finding(
      isHarmless ? 'handled' : 'degraded',
      `${happened}.`,
      'An empty folder was made in its place.',
    ),
  };
}

/** Things are made again as the application's own user, so only what was theirs and has a name that can be passed on. */
function mayMake({ uid, bytes }: RecordedFile | RecordedFolder, { user }: Owner): boolean {
  return uid === user.uid && bytes === undefined;
}

function finding(verdict: Finding['verdict'], what: string, hint = ''): Finding {
  return { tie: 'file', verdict, by: 'engine', what, hint };
}

function rewriteFor(
  plan: Exclude<Plan, { kind: 'refuse' }>,
  images: Images,
  view: CapsuleView,
  runFolder: string,
): RegFileChange {
  switch (plan.kind) {
    case 'forget':
      return plan.what;
    case 'recreate':
      return { forgetContents: true, forgetMode: true };
    case 'use-kept-file':
      return { forgetMode: true, movedTo: plan.at };
    case 'use-kept':
      return {
        forgetMode: true,
        // A job sees the host's files.
        movedTo:
          view.runFolder === undefined
            ? { path: join(runFolder, plan.kept) }
            : { path: inCapsule(plan.kept), mountId: runMountId(images) },
      };
  }
}

const inCapsule = (kept: string) => join(keptFolder, '..', kept);

/** The mount of the run folder, by which CRIU finds a file in it. */
function runMountId({ mounts }: Images): number {
  const mount = mounts.find(
    ({ mountPoint }) => mountPoint.replace(/^\.(?=\/)/, '') === join(keptFolder, '..'),
  );
  if (mount === undefined) {
    throw new TorporError(
      'failed',
      'The snapshot has no mount for the capsule’s run folder.',
      'Check it with `torpor verify`.',
    );
  }
  return mount.id;
}

/** The open files of that name; those whose name was gone at the checkpoint only look like it. */
function regFileIds(images: Images, record: RecordedPath): number[] {
  const path = pathBytes(record);
  return images.regFiles
    .filter(({ rawPath, remap, isExternal }) => remap === 'none' && !isExternal && rawPath.equals(path))
    .map(({ id }) => id);
}

/** Puts a copy that was kept where the capsule will find it. */
async function placeKept(
  record: RecordedFile,
  kept: string,
  runFolder: string,
  snapshotFolder: string,
): Promise<void> {
  const target = join(runFolder, kept);
  await mkdir(join(runFolder, 'kept'), { recursive: true, mode: 0o711 });
  await rm(target, { force: true });
  await copyFile(join(snapshotFolder, kept), target, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
  await chown(target, record.uid, record.gid);
  // Who reaches it is to have no rights by it.
  await chmod(target, record.mode & 0o777);
}

const makeFile = 'set -C; umask 077; : > "$1" && chmod "$2" -- "$1"';
const makeFolder = 'mkdir -p -- "$1" && chmod "$2" -- "$1"';

/**
 * Makes an empty file or folder as the application's user: a user could have put a link in the place of a folder above
 * it, which must lead root nowhere. @throws TorporError `blocked` where the user cannot make it.
 */
async function recreate(
  record: RecordedFile | RecordedFolder,
  view: CapsuleView,
  { user }: Owner,
): Promise<void> {
  const host = await hostPath(view, pathBytes(record));
  const script = record.kind === 'file' ? makeFile : makeFolder;
  const command = ['sh', '-c', script, 'sh', host.toString('utf8'), record.mode.toString(8)];
  const result = await runCommand('setpriv', [...identityOptions(user), '--', ...command]);
  if (result.status === 0) return;
  throw new TorporError(
    'blocked',
    `${record.path} was removed while the application was suspended and cannot be made again: ${result.stderr.trim()}.`,
    'Put it back and resume again; the snapshot is kept.',
  );
}

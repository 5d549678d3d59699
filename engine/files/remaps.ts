/**
 * Files that an application had open under a name that is gone. CRIU keeps those that still have another name by a hard
 * link beside it, `link_remap.N`, which the first restore takes away, and puts the others into place as
 * `NAME.cr.N.ghost` for the length of a restore. Neither may keep a snapshot from being resumed again: the link is held
 * by a second one, and a ghost that a killed restore left is removed.
 *
 * All is done as the application's own user, since it happens in folders where that user could have put links.
 */
import type { CapsuleSpec } from '../../proto/manifest.ts';
import { identityOptions, runCommand } from '../command.ts';
import type { Images } from '../criu/images.ts';
import { ghostIdIn } from './ghosts.ts';
import { type CapsuleView, hostPath } from './paths.ts';

/** Whose workload it is. */
type Owner = Pick<CapsuleSpec, 'user'>;

const linkName = /\/link_remap\.\d+$/;
const heldSuffix = '.torpor';

/** Makes each of the two names out of the other where one is missing. A link that cannot be made is CRIU's to report. */
const holdLinks = `for link do
  held="$link${heldSuffix}"
  [ -e "$link" ] || ln -- "$held" "$link" 2>/dev/null
  [ -e "$held" ] || ln -- "$link" "$held" 2>/dev/null
done; true`;
const dropLinks = `for link do rm -f -- "$link" "$link${heldSuffix}"; done`;

async function asUser({ user }: Owner, script: string, paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return;
  await runCommand('setpriv', [...identityOptions(user), '--', 'sh', '-c', script, 'sh', ...paths]);
}

async function linksOf(images: Images, view: CapsuleView): Promise<string[]> {
  const links = images.regFiles
    .filter(({ path }) => linkName.test(path))
    .map(({ rawPath }) => hostPath(view, rawPath));
  return (await Promise.all(links)).map((path) => path.toString('utf8'));
}

/** Before and after every restore: what it needs is there, and stays there for the next. */
export async function holdRemaps(
  images: Images,
  view: CapsuleView,
  owner: Owner,
  snapshot: string,
): Promise<void> {
  await asUser(owner, holdLinks, await linksOf(images, view));
  const ghosts = images.regFiles.flatMap(({ path, ghostId }) =>
    // A restore that was killed has left it, and every later one would fail: `Can't create ghost regfile`.
    ghostId === undefined ? [] : [`${path}.cr.${ghostIdIn(snapshot, ghostId).toString(16)}.ghost`],
  );
  const paths = await Promise.all(ghosts.map((path) => hostPath(view, Buffer.from(path))));
  await asUser(owner, 'rm -f -- "$@"', paths.map(String));
}

/** When the snapshot is removed nothing needs the links any more. */
export async function dropRemaps(images: Images, view: CapsuleView, owner: Owner): Promise<void> {
  await asUser(owner, dropLinks, await linksOf(images, view));
}

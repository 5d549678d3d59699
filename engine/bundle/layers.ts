/**
 * What lies over a machine's files for workloads that came with a bundle. A layer is a folder `layers/ID` of the state
 * folder: `changes` has the bundle's files and all that the application writes from then on, `work` is the kernel's, `base.json`
 * says what the user's files were when the workload left home, `outlet.json` what becomes of those that are changed. Its root,
 * the layer over the machine's `/`, is mounted while somebody needs it; nothing of the machine itself changes by what
 * happens in there.
 *
 * The overlay is made with `index` and `nfs_export`, so that what watches files can be checkpointed: CRIU finds
 * watched files by their handles.
 */
import { randomBytes } from 'node:crypto';
import { chmod, chown, lstat, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { User } from '../capsule/users.ts';
import { runCommand } from '../command.ts';
import { privateFolder, syncFolder, writeDurable } from '../durable.ts';
import type { Logger } from '../log.ts';
import { readMounts } from '../mounts.ts';
import { type Base, baseSchema } from './contents.ts';

const outletSchema = z.object({
  uid: z.int().min(0),
  /** Of the workload. */
  name: z.string(),
  /** What the workload's paths are beneath on this machine, where it is at home here. */
  homeRoot: z.string().startsWith('/').optional(),
  /** The user's files, as they are somewhere else as well: where they came from, or where they were exported to. */
  safe: baseSchema,
});

/** Where its user's files go when nothing needs the layer any more. */
export type Outlet = z.infer<typeof outletSchema>;

export interface LayerFolders {
  stateDir: string;
  runDir: string;
}

export class Layers {
  readonly #folders: LayerFolders;
  readonly #isActive: (id: string) => boolean;
  readonly #log: Logger;
  /** Mounts of one layer are made and taken away one after the other. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /** Those that nothing refers to yet. */
  readonly #making = new Set<string>();

  /** @param isActive whether something runs on it, or is about to. */
  constructor(folders: LayerFolders, isActive: (id: string) => boolean, log: Logger) {
    this.#folders = folders;
    this.#isActive = isActive;
    this.#log = log;
  }

  #folder(id: string): string {
    return join(this.#folders.stateDir, 'layers', id);
  }

  /** Only its user enters it, on the way to the mounted root. */
  #gate(id: string): string {
    return join(this.#folders.runDir, 'roots', id);
  }

  /** What a capsule has for its root. */
  rootOf(id: string): string {
    return join(this.#gate(id), 'root');
  }

  /** Where what is not the machine's lies. */
  changesOf(id: string): string {
    return join(this.#folder(id), 'changes');
  }

  /** Makes an empty one. */
  async make(): Promise<string> {
    const id = randomBytes(8).toString('hex');
    this.#making.add(id);
    await privateFolder(this.#folder(id));
    for (const name of ['changes', 'work']) await mkdir(join(this.#folder(id), name), { mode: 0o755 });
    await syncFolder(join(this.#folders.stateDir, 'layers'));
    return id;
  }

  /** What it was made for refers to it, or never will. */
  made(id: string): void {
    this.#making.delete(id);
  }

  async writeBase(id: string, base: Base): Promise<void> {
    await writeDurable(join(this.#folder(id), 'base.json'), JSON.stringify(base));
  }

  /** What its user's files were when they left home. @throws Error where that cannot be read. */
  async baseOf(id: string): Promise<Base> {
    return baseSchema.parse(JSON.parse(await readFile(join(this.#folder(id), 'base.json'), 'utf8')));
  }

  async writeOutlet(id: string, outlet: Outlet): Promise<void> {
    await writeDurable(join(this.#folder(id), 'outlet.json'), JSON.stringify(outlet));
  }

  /** @returns undefined of one that was never complete. @throws Error where it cannot be read. */
  async outletOf(id: string): Promise<Outlet | undefined> {
    const text = await readFile(join(this.#folder(id), 'outlet.json'), 'utf8').catch(noneIfMissing);
    return text === undefined ? undefined : outletSchema.parse(JSON.parse(text));
  }

  /**
   * Has its root mounted.
   * @throws TorporError `failed` where the layer is gone or the kernel does not mount it.
   */
  mount(id: string, user: Pick<User, 'uid' | 'gid'>): Promise<string> {
    return this.#inTurn(id, async () => {
      const root = this.rootOf(id);
      if ((await lstat(this.#folder(id)).catch(() => undefined)) === undefined)
        throw new TorporError(
          'failed',
          `What came with the bundle (layer ${id}) is no longer in the state folder.`,
          'Import the bundle again.',
        );
      await mkdir(join(this.#folders.runDir, 'roots'), { recursive: true, mode: 0o711 });
      await mkdir(root, { recursive: true, mode: 0o755 });
      await chown(this.#gate(id), user.uid, user.gid);
      await chmod(this.#gate(id), 0o700);
      if (await isMounted(root)) return root;
      const folder = this.#folder(id);
      const options = [
        ...['index=on', 'nfs_export=on', 'lowerdir=/'],
        ...[`upperdir=${escaped(join(folder, 'changes'))}`, `workdir=${escaped(join(folder, 'work'))}`],
      ];
      const { status, stderr } = await runCommand('mount', [
        ...['-t', 'overlay', '-o', options.join(','), '--', 'torpor', root],
      ]);
      if (status === 0) return root;
      throw new TorporError(
        'failed',
        `The files of the bundle cannot be laid over those of this machine: ${stderr.trim()}.`,
        'It needs overlayfs (`modprobe overlay`), and a state folder on a file system that overlayfs can write to, such as ext4, xfs or btrfs (TORPOR_STATE_DIR moves it).',
      );
    });
  }

  /** Takes its root away, unless something runs on it. */
  unmount(id: string): Promise<void> {
    return this.#inTurn(id, async () => {
      if (this.#isActive(id)) return;
      const root = this.rootOf(id);
      if (await isMounted(root)) {
        const { status, stderr } = await runCommand('umount', ['-l', '--', root]);
        if (status !== 0) this.#log.warn({ layer: id, stderr }, 'a root could not be unmounted');
      }
      await rm(this.#gate(id), { recursive: true, force: true }).catch((error: unknown) =>
        this.#log.warn({ err: error, layer: id }, 'the folder of a root remains'),
      );
    });
  }

  /** Removes one for good. */
  async remove(id: string): Promise<void> {
    await this.unmount(id);
    if (await isMounted(this.rootOf(id))) return;
    await rm(this.#folder(id), { recursive: true, force: true });
  }

  /** Those that nobody needs. */
  async unneeded(needed: ReadonlySet<string>): Promise<string[]> {
    const names = await readdir(join(this.#folders.stateDir, 'layers')).catch(() => []);
    return names.filter((name) => !needed.has(name) && !this.#making.has(name));
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    const turn = before.catch(() => {}).then(work);
    this.#turns.set(id, turn);
    return turn;
  }
}

function noneIfMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}

/** In an option of the overlay a colon and a comma end a path (kernel: Documentation/filesystems/overlayfs.rst). */
const escaped = (path: string) => path.replace(/[\\,:]/g, '\\$&');

async function isMounted(path: string): Promise<boolean> {
  return (await readMounts()).some((mount) => mount.path === path);
}

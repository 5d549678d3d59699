/** The kernels that are installed on this machine, as Debian (/boot) and others (/lib/modules/VERSION) lay them out. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type KernelConfig, type KernelModules, parseConfig, parseModules } from './kernel-config.ts';

export interface Kernel {
  version: string;
  image: string;
  initrd: string | undefined;
}

const isFile = async (path: string) => (await stat(path).catch(() => undefined))?.isFile() ?? false;

async function firstFile(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) if (await isFile(path)) return path;
  return undefined;
}

const namesIn = (folder: string) => readdir(folder).catch(() => []);

/** Newer before older: numbers in a version by their values, everything else by its letters. Pure. */
export function compareVersions(a: string, b: string): number {
  return b.localeCompare(a, 'en', { numeric: true });
}

export class Kernels {
  readonly #root: string;

  /** @param root below which /boot and /lib/modules lie. */
  constructor(root = '/') {
    this.#root = root;
  }

  /** The newest first. */
  async list(): Promise<Kernel[]> {
    const images = new Map<string, string>();
    for (const version of await namesIn(join(this.#root, 'lib/modules'))) {
      const image = join(this.#root, 'lib/modules', version, 'vmlinuz');
      if (await isFile(image)) images.set(version, image);
    }
    for (const name of await namesIn(join(this.#root, 'boot'))) {
      const version = /^vmlinu[xz]-(.+)$/.exec(name)?.[1];
      if (version !== undefined && !version.endsWith('.old'))
        images.set(version, join(this.#root, 'boot', name));
    }
    const kernels = Array.from(images, async ([version, image]) => ({
      version,
      image,
      initrd: await this.#initrdOf(version),
    }));
    return (await Promise.all(kernels)).sort((a, b) => compareVersions(a.version, b.version));
  }

  #initrdOf(version: string): Promise<string | undefined> {
    const names = [`initrd.img-${version}`, `initramfs-${version}.img`, `initrd-${version}`];
    return firstFile(names.map((name) => join(this.#root, 'boot', name)));
  }

  /** @returns undefined where nobody has kept it. */
  async configOf(version: string): Promise<KernelConfig | undefined> {
    const path = await firstFile([
      join(this.#root, 'boot', `config-${version}`),
      join(this.#root, 'lib/modules', version, 'config'),
      join(this.#root, 'lib/modules', version, 'build/.config'),
    ]);
    return path === undefined ? undefined : parseConfig(await readFile(path, 'utf8'));
  }

  /** @returns undefined where the kernel has no folder of modules. */
  async modulesOf(version: string): Promise<KernelModules | undefined> {
    const folder = join(this.#root, 'lib/modules', version);
    const [files, builtIn] = await Promise.all(
      ['modules.dep', 'modules.builtin'].map((name) =>
        readFile(join(folder, name), 'utf8').catch(() => undefined),
      ),
    );
    return files === undefined ? undefined : parseModules(basename(folder), files, builtIn ?? '');
  }
}

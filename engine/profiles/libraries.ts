/** The libraries that a program is linked to, followed as far as matters for telling what an application is made with. */
import { posix } from 'node:path';
import type { UserFiles } from '../files/user-files.ts';
import { type Linked, readLinked } from './elf.ts';

/** An application's own libraries lie between it and those that matter, and those have many of their own. */
const deepest = 3;
const mostLibraries = 250;
const standardFolders = [
  ...['x86_64', 'aarch64'].flatMap((machine) => [
    `/usr/lib/${machine}-linux-gnu`,
    `/lib/${machine}-linux-gnu`,
  ]),
  ...['/usr/lib64', '/lib64', '/usr/lib', '/lib', '/usr/local/lib'],
];

/** Sonames, in no order. */
export async function librariesOf(program: string, files: UserFiles): Promise<Set<string>> {
  const sonames = new Set<string>();
  const folders = new KnownFolders(files);
  let level = [program];
  for (let depth = 1; depth <= deepest && level.length > 0; depth++) {
    const linked = await Promise.all(level.map((path) => linkedOf(path, files)));
    const found = linked.flatMap(({ needed, runPath }) => needed.map((soname) => ({ soname, runPath })));
    const fresh = new Map(
      found.filter(({ soname }) => !sonames.has(soname)).map((each) => [each.soname, each]),
    );
    const taken = [...fresh.values()].slice(0, mostLibraries - sonames.size);
    for (const { soname } of taken) sonames.add(soname);
    if (depth === deepest) break;
    const paths = taken.map(({ soname, runPath }) => folders.locate(soname, runPath));
    level = (await Promise.all(paths)).filter((path) => path !== undefined);
  }
  return sonames;
}

async function linkedOf(path: string, files: UserFiles): Promise<Linked> {
  const file = await files.open({ path });
  if (file === undefined) return { needed: [], runPath: [] };
  try {
    const { needed, runPath } = (await readLinked(file)) ?? { needed: [], runPath: [] };
    const origin = posix.dirname(path);
    const folders = runPath.map((folder) => folder.replace(/\$\{?ORIGIN\}?/g, origin));
    return { needed, runPath: folders.filter((folder) => folder.startsWith('/')) };
  } finally {
    await file.close();
  }
}

/** What lies in the folders that libraries are looked for in: each is listed once. */
class KnownFolders {
  readonly #files: UserFiles;
  readonly #names = new Map<string, Promise<Set<string>>>();

  constructor(files: UserFiles) {
    this.#files = files;
  }

  async locate(soname: string, first: readonly string[]): Promise<string | undefined> {
    for (const folder of [...first, ...standardFolders]) {
      if (!(await this.#namesIn(folder)).has(soname)) continue;
      const found = await this.#files.find(posix.join(folder, soname));
      if (found?.stat.isFile()) return found.path;
    }
    return undefined;
  }

  #namesIn(folder: string): Promise<Set<string>> {
    const names = this.#names.get(folder) ?? this.#files.list(folder).then((list) => new Set(list));
    this.#names.set(folder, names);
    return names;
  }
}

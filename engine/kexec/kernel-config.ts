/** What a kernel that does not run can do, by the files that it is installed with. */

/** Options of its configuration that are on: `y`, `m` for a module, or a value. Without `CONFIG_`. */
export type KernelConfig = ReadonlyMap<string, string>;

export interface KernelModules {
  version: string;
  /** Names with underscores, as the kernel has them once they are loaded. */
  loadable: ReadonlySet<string>;
  builtIn: ReadonlySet<string>;
}

/** Reads a configuration as kernels are built with (kernel: Documentation/kbuild/kconfig.rst). Pure. */
export function parseConfig(text: string): KernelConfig {
  const options = text.matchAll(/^CONFIG_(\w+)=(.*)$/gm);
  return new Map(Array.from(options, ([, name = '', value = '']) => [name, value]));
}

const nameOf = (path: string) =>
  (path.split('/').at(-1) ?? '').replace(/\.ko(\.(gz|xz|zst))?$/, '').replaceAll('-', '_');

/** @param files modules.dep; @param builtIn modules.builtin (modules.dep(5), modprobe(8)). Pure. */
export function parseModules(version: string, files: string, builtIn: string): KernelModules {
  const lines = (text: string) => text.split('\n').filter(Boolean);
  return {
    version,
    loadable: new Set(lines(files).map((line) => nameOf(line.slice(0, line.indexOf(':'))))),
    builtIn: new Set(lines(builtIn).map(nameOf)),
  };
}

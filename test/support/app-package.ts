/** electron-builder.yml, and what a package made by it has of the engine, laid out as it is when it is installed. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = new URL('../..', import.meta.url).pathname;

export interface Resource {
  from: string;
  to: string;
  filter?: string[];
}

export interface PackageConfig {
  appId: string;
  files: string[];
  extraMetadata: { main: string };
  extraResources: Resource[];
  linux: {
    icon: string;
    executableName: string;
    target: string[];
    desktop: { entry: Record<string, string> };
  };
  deb: PackageTarget;
  rpm: PackageTarget;
}

export interface PackageTarget {
  afterInstall: string;
  afterRemove: string;
  depends: string[];
  fpm: string[];
}

export function readPackageConfig(): PackageConfig {
  const script = 'import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)';
  const text = execFileSync('python3', ['-c', script, join(root, 'electron-builder.yml')], {
    encoding: 'utf8',
  });
  return JSON.parse(text);
}

/** Whether a path fits a pattern: `*` within a name, two of them over folders. */
export function fits(pattern: string, path: string): boolean {
  const form = pattern
    .replace(/[.+]/g, '\\$&')
    .replaceAll('**/', '@')
    .replaceAll('*', '[^/]*')
    .replaceAll('@', '(.*/)?');
  return new RegExp(`^${form}$`).test(path);
}

/** The files below a folder of the checkout; a link to a folder is none of them, and is not followed. */
export function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory())
      return filesBelow(join(folder, entry.name)).map((file) => join(entry.name, file));
    const stat = statSync(join(root, folder, entry.name), { throwIfNoEntry: false });
    return stat?.isFile() ? [entry.name] : [];
  });
}

/** The files that a package puts elsewhere than with the app: from where in the checkout, and to where. */
export const installedFiles = ({ fpm }: PackageTarget): { from: string; to: string }[] =>
  fpm
    .filter((word) => !word.startsWith('-'))
    .map((word) => word.split('='))
    .map(([from = '', to = '']) => ({ from, to }));

export class InstalledPackage implements Disposable {
  /** As /opt/Torpor is. */
  readonly folder: string;

  /** @param program what takes the place of Electron's. */
  constructor({ extraResources, linux }: PackageConfig, program: string) {
    this.folder = mkdtempSync('/var/tmp/torpor-installed-');
    chmodSync(this.folder, 0o755);
    copyFileSync(program, join(this.folder, linux.executableName));
    for (const { from, to, filter = ['**/*'] } of extraResources) {
      const wanted = filter.filter((each) => !each.startsWith('!'));
      const unwanted = filter.filter((each) => each.startsWith('!')).map((each) => each.slice(1));
      const isTaken = (file: string) =>
        wanted.some((each) => fits(each, file)) && !unwanted.some((each) => fits(each, file));
      for (const file of filesBelow(from).filter(isTaken)) {
        const target = join(this.folder, 'resources', to, file);
        mkdirSync(dirname(target), { recursive: true });
        copyFileSync(join(root, from, file), target);
      }
    }
  }

  get engine(): string {
    return join(this.folder, 'resources/engine');
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

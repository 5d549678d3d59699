/** Which Debian package a file belongs to, so that an error can name what was upgraded. */
import { join } from 'node:path';
import { runCommand } from '../command.ts';

export interface Package {
  name: string;
  /** The one installed now; absent where the package has been removed. */
  version?: string;
}

// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own notation.
const versionOnly = '${Version}';

/** The package of a path inside a root folder; undefined for a file of none, and where there is no dpkg. */
export async function packageOf(path: string, root: string): Promise<Package | undefined> {
  const database = ['--admindir', join(root, 'var/lib/dpkg')];
  try {
    for (const candidate of namesOf(path)) {
      const literal = candidate.replace(/[\\*?[\]]/g, '\\$&');
      const found = await runCommand('dpkg-query', [...database, '--search', '--', literal]);
      const owner = found.stdout.split('\n').find((line) => line.endsWith(`: ${candidate}`));
      const name = owner?.startsWith('diversion ') ? undefined : owner?.split(/, |: /)[0];
      if (name === undefined) continue;
      const shown = await runCommand('dpkg-query', [...database, '--show', '-f', versionOnly, '--', name]);
      const bare = name.replace(/:\w+$/, '');
      return shown.status === 0 && shown.stdout !== ''
        ? { name: bare, version: shown.stdout }
        : { name: bare };
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return undefined;
}

/** Since the merge of /usr, packages may still list what the kernel calls /usr/lib/x as /lib/x. */
function namesOf(path: string): string[] {
  return /^\/usr\/(lib\w*|s?bin)\//.test(path) ? [path, path.slice('/usr'.length)] : [path];
}

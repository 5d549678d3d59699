/** Programs, as a shell would find them. */
import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';

/** Whether there is such a program: a path, or a name in one of the folders of PATH. */
export async function isProgram(name: string): Promise<boolean> {
  const folders = isAbsolute(name) ? [''] : (process.env.PATH ?? '/usr/bin:/bin').split(delimiter);
  for (const folder of folders) {
    const is = await access(join(folder, name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (is) return true;
  }
  return false;
}

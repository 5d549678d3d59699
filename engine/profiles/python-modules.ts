/**
 * The modules that a Python program imports: what a program in Python is made with stands in its text, as what others are
 * made with stands in what they are linked to. The program itself and its own packages are read, as far as they can be
 * found without running anything; libraries that it uses are not.
 */
import { posix } from 'node:path';
import type { UserFiles } from '../files/user-files.ts';

const mostFiles = 300;
const largestHead = 64 * 1024;
const deepest = 3;
const installed = ['/usr/lib/python3/dist-packages', '/usr/share'];
/** They name all that they could load, whatever the program needs of it. */
const bindings = new Set(['PyQt5', 'PyQt6', 'PySide2', 'PySide6', 'qtpy', 'gi']);

/** Names with dots, such as `PyQt6.QtWebEngineWidgets`. None where the program is not a script in Python. */
export async function pythonModulesOf(program: string, files: UserFiles): Promise<Set<string>> {
  const script = await read(program, files);
  const isPython = /^#!.*python/.test(script) || program.endsWith('.py');
  if (!isPython) return new Set();
  const modules = new Set(importsIn(script));
  const own = posix.dirname(program);
  // A folder that the script adds to where modules are looked for, as `sys.path.insert(0, '/usr/lib/calibre')`.
  const added = Array.from(script.matchAll(/["'](\/[^"'\n]+)["']/g), ([, path = '']) => path);
  const folders = [...(isShared(own) ? [] : [own]), ...added, ...installed, ...environmentOf(own, script)];
  const packages = new Set([...modules].map((name) => name.split('.')[0] ?? ''));
  // A script that an installer has made names its distribution at most; that is mostly called as the command.
  for (const [, name = ''] of script.matchAll(/["']([\w-]+)==/g)) packages.add(name);
  packages.add(posix.basename(program, '.py'));
  const seen = { files: 0 };
  for (const name of packages) {
    if (bindings.has(name) || !/^\w+$/.test(name)) continue;
    for (const folder of folders) await visit(posix.join(folder, name), 0, modules, files, seen);
  }
  return modules;
}

const isShared = (folder: string) => /^(?:\/usr)?(?:\/local)?\/(?:s?bin|games)$/.test(folder);

/** Where the modules of a virtual environment lie, whose interpreter a script in it names. */
function environmentOf(own: string, script: string): string[] {
  const version = /python(3\.\d+)/.exec(script)?.[1] ?? '3';
  const root = posix.dirname(own);
  return [`${root}/lib/python${version}/site-packages`, `${root}/lib/python${version}/dist-packages`];
}

/** A module of that path, or a package with all that is in it. */
async function visit(
  path: string,
  depth: number,
  modules: Set<string>,
  files: UserFiles,
  seen: { files: number },
): Promise<void> {
  if (depth > deepest || seen.files >= mostFiles) return;
  if (depth === 0 && !path.endsWith('.py')) await visit(`${path}.py`, depth, modules, files, seen);
  if (path.endsWith('.py')) {
    const text = await read(path, files);
    if (text !== '') seen.files++;
    for (const name of importsIn(text)) modules.add(name);
    return;
  }
  const names = await files.list(path);
  // A folder of data may have the same name.
  if (depth === 0 && !names.some((name) => name.endsWith('.py'))) return;
  for (const name of names) {
    if (/^[A-Za-z_]\w*(?:\.py)?$/.test(name) && name !== '__pycache__')
      await visit(posix.join(path, name), depth + 1, modules, files, seen);
  }
}

async function read(path: string, files: UserFiles): Promise<string> {
  const found = await files.find(path);
  if (found === undefined || !found.stat.isFile()) return '';
  return (await files.head(found, largestHead)).toString('latin1');
}

/** What a text in Python imports, `from a import b` as `a` and `a.b`. Pure. */
export function importsIn(text: string): string[] {
  const found: string[] = [];
  for (const [, module = '', names = ''] of text.matchAll(
    /^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)/gm,
  )) {
    if (module.startsWith('.')) continue;
    found.push(module);
    for (const [, name = ''] of names.matchAll(/(?:^|[,(])\s*(\w+)/g)) found.push(`${module}.${name}`);
  }
  for (const [, names = ''] of text.matchAll(/^[ \t]*import[ \t]+([^\n#;]*)/gm))
    for (const [, name = ''] of names.matchAll(/(?:^|,)\s*([\w.]+)/g)) found.push(name);
  return found;
}

/**
 * The programs that a command leads to: what stands first in it, links and start scripts followed, and what wrappers,
 * interpreters and shells are given to run. A desktop's `/usr/bin/NAME` is mostly none of the application itself.
 */
import { posix } from 'node:path';
import type { UserFiles } from '../files/user-files.ts';
import { isAppImage } from './elf.ts';
import { programsIn } from './shell-script.ts';

const headBytes = 64 * 1024;
const mostPrograms = 24;
const deepest = 6;

export interface Program {
  /** Without any link in it. */
  path: string;
  /** What it is called on the way there: the path by which it was found, and the links' own names. */
  names: string[];
  format: 'elf' | 'appimage' | 'script' | 'other';
  /** The word of the command after which arguments for it go; undefined where there is no such place. */
  word: number | undefined;
  /** Read out of a start script that may have other ways as well. */
  guessed: boolean;
}

export interface CommandLine {
  command: readonly string[];
  cwd: string;
  /** Of which PATH and HOME are used. */
  env: Readonly<Record<string, string>>;
}

interface Position {
  words: readonly string[];
  /** Of the first word in the command; undefined where the words are not from there. */
  offset: number | undefined;
  guessed: boolean;
  depth: number;
}

const shells = /^(?:ba|da|z|k|mk|a)?sh$/;
/** Programs that run what follows their options; of these options the named ones take a word of their own. */
const wrappers: Readonly<Record<string, string>> = {
  env: 'uCS',
  nice: 'n',
  ionice: 'cnp',
  nohup: '',
  setsid: '',
  stdbuf: 'ioe',
  timeout: 'ks',
  time: 'fo',
  taskset: '',
  chrt: '',
  exec: 'a',
  'dbus-run-session': '',
  'dbus-launch': '',
  'prime-run': '',
  gamemoderun: '',
  mangohud: '',
  optirun: 'b',
  catchsegv: '',
};
/** They run, in their window, what follows one of these words. */
const terminals =
  /^(?:[a-z-]*term(?:inal)?(?:\.[a-z]+)?|x-terminal-emulator|konsole|kitty|alacritty|tilix|foot)$/;
const ofTerminals = new Set(['-e', '-x', '--', '--execute', '--command']);
/** Programs whose first argument that is a file is the application. */
const interpreters =
  /^(?:python[\d.]*|perl[\d.]*|ruby[\d.]*|node|nodejs|lua[\d.]*|gjs|cjs|mono|tclsh[\d.]*|wish[\d.]*|guile[\d.]*|java|javaw|wine(?:64|-stable|-development)?|electron[\d.]*|bash|dash|zsh|ksh|sh)$/;

/** @returns the outermost first; none where the command cannot be found */
export async function programsOf(line: CommandLine, files: UserFiles): Promise<Program[]> {
  const found = new Map<string, Program>();
  const visit = async (at: Position): Promise<void> => {
    const [word] = at.words;
    if (word === undefined || at.depth > deepest || found.size >= mostPrograms) return;
    const path = await locate(word, line, files);
    const file = path === undefined ? undefined : await files.find(path);
    if (path === undefined || file === undefined || !file.stat.isFile()) return;
    const known = found.get(file.path);
    if (known !== undefined) {
      if (!known.names.includes(path)) known.names.push(path);
    } else {
      const head = await files.head(file, headBytes);
      const format = formatOf(head);
      const { offset, guessed } = at;
      found.set(file.path, { path: file.path, names: [path], format, word: offset, guessed });
      if (format === 'script') await visitScript(head.toString('latin1'), file.path, at);
    }
    await visitArguments(posix.basename(path), at);
  };

  const visitScript = async (text: string, path: string, at: Position): Promise<void> => {
    const interpreter = /^#!\s*(\S+)(?:\s+(?:-\S+\s+)*(\S+))?/.exec(text);
    const named = interpreter?.[1] ?? '';
    const real = posix.basename(named) === 'env' ? (interpreter?.[2] ?? '') : named;
    await visit({ ...at, words: [real], depth: at.depth + 1 });
    if (!shells.test(posix.basename(real))) return;
    const started = programsIn(text, path, line.env);
    const isOnlyEnd = started.filter(({ exec }) => exec).length === 1;
    for (const { word, exec } of started) {
      const guessed = at.guessed || !(exec && isOnlyEnd);
      await visit({ words: [word], offset: at.offset, guessed, depth: at.depth + 1 });
    }
  };

  const visitArguments = async (name: string, position: Position): Promise<void> => {
    const { words, offset, guessed, depth } = position;
    const rest = (skipped: number): Position => ({
      words: words.slice(skipped),
      offset: offset === undefined ? undefined : offset + skipped,
      guessed,
      depth: depth + 1,
    });
    const optionsWithWord = wrappers[name];
    if (optionsWithWord !== undefined) return visit(rest(afterOptions(name, words, optionsWithWord)));
    if (terminals.test(name)) {
      const at = words.findIndex((word) => ofTerminals.has(word));
      return at < 0 ? undefined : visit(rest(at + 1));
    }
    if (!interpreters.test(name)) return;
    const inline = shells.test(name) ? words.indexOf('-c') : -1;
    if (inline > 0) {
      for (const { word } of programsIn(execForm(words[inline + 1] ?? ''), '/', line.env))
        await visit({ words: [word], offset: undefined, guessed: false, depth: depth + 1 });
      return;
    }
    for (let index = 1; index < words.length; index++) {
      if (words[index]?.startsWith('-')) continue;
      // A name alone is a file here, not one to be looked for in PATH.
      const path = absolute(words[index] ?? '', line.cwd);
      if (!(await files.find(path))?.stat.isFile()) continue;
      return visit({ ...rest(index), words: [path, ...words.slice(index + 1)] });
    }
  };

  await visit({ words: line.command, offset: 0, guessed: false, depth: 0 });
  return [...found.values()];
}

const absolute = (word: string, cwd: string) => posix.resolve(cwd, word);

/** `chromium --x` is what `exec chromium --x` is, at the end of a line of a shell. */
const execForm = (text: string) =>
  text
    .split(/(;|&&|\|\|)/)
    .map((part) =>
      /^(?:;|&&|\|\|)$/.test(part) || /^\s*(?:exec|\w+=\S*\s*$)/.test(part) ? part : `exec ${part}`,
    )
    .join('');

function formatOf(head: Buffer): Program['format'] {
  if (head.subarray(0, 2).toString('latin1') === '#!') return 'script';
  if (head.length < 4 || head.readUInt32BE(0) !== 0x7f454c46) return 'other';
  return isAppImage(head) ? 'appimage' : 'elf';
}

/** Where a shell would find a command. */
async function locate(word: string, line: CommandLine, files: UserFiles): Promise<string | undefined> {
  if (word.includes('/')) return absolute(word, line.cwd);
  for (const folder of (line.env.PATH ?? '').split(':')) {
    if (!folder.startsWith('/')) continue;
    const path = posix.join(folder, word);
    const file = await files.find(path);
    if (file !== undefined && files.isExecutable(file)) return path;
  }
  return undefined;
}

/** The index of the first word that is neither an option of the wrapper nor a word of one. */
function afterOptions(name: string, words: readonly string[], withWord: string): number {
  for (let index = 1; index < words.length; index++) {
    const word = words[index] ?? '';
    if (word === '--') return index + 1;
    if (word.startsWith('-') && word.length > 1) {
      if (!word.startsWith('--') && word.length === 2 && withWord.includes(word.charAt(1))) index++;
      continue;
    }
    if (name === 'env' && /^[A-Za-z_]\w*=/.test(word)) continue;
    if (/^(?:timeout|taskset|chrt)$/.test(name)) {
      if (/^[\d.a-fx,-]+[smhd]?$/.test(word)) continue;
    }
    return index;
  }
  return words.length;
}

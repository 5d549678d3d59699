/** The Exec key of a desktop entry: quoting and field codes (specification 1.5, section 7). Pure. */
import { pathToFileURL } from 'node:url';
import { BrokenEntry } from './desktop-entry.ts';

/** A word, and whether any of it was quoted: field codes in quotes are not expanded. */
interface Word {
  text: string;
  quoted: boolean;
}

/** @throws BrokenEntry where a quote is not closed. */
export function splitExec(exec: string): Word[] {
  const words: Word[] = [];
  let word: Word | undefined;
  let inQuotes = false;
  for (let at = 0; at < exec.length; at++) {
    const letter = exec.charAt(at);
    if (inQuotes && letter === '\\' && '"`$\\'.includes(exec.charAt(at + 1))) {
      word = { text: (word?.text ?? '') + exec.charAt(++at), quoted: true };
    } else if (letter === '"') {
      inQuotes = !inQuotes;
      word = { text: word?.text ?? '', quoted: true };
    } else if (!inQuotes && /\s/.test(letter)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = { text: (word?.text ?? '') + letter, quoted: word?.quoted ?? false };
    }
  }
  if (inQuotes) throw new BrokenEntry('a quotation mark in its Exec is not closed');
  if (word !== undefined) words.push(word);
  return words;
}

/**
 * The arguments, the program first, with these files as paths.
 * @throws BrokenEntry where there is no program.
 */
export function expandExec(
  exec: string,
  {
    files,
    name,
    icon,
    entryPath,
  }: { files: readonly string[]; name: string; icon: string; entryPath: string },
): string[] {
  const urls = files.map((file) => (/^[a-z][a-z0-9+.-]*:\/\//i.test(file) ? file : pathToFileURL(file).href));
  const argv = splitExec(exec).flatMap(({ text, quoted }) => {
    if (quoted) return [text.replaceAll('%%', '%')];
    // An empty argument in its place would be taken for a file by many programs.
    if (/^(?:%[dDnNvm])+$/.test(text)) return [];
    switch (text) {
      case '%f':
        return files.slice(0, 1);
      case '%F':
        return [...files];
      case '%u':
        return urls.slice(0, 1);
      case '%U':
        return urls;
      case '%i':
        return icon === '' ? [] : ['--icon', icon];
      default:
        return [expandWithin(text, { file: files[0] ?? '', url: urls[0] ?? '', name, entryPath })];
    }
  });
  if (argv.length === 0) throw new BrokenEntry('its Exec names no program');
  return argv;
}

function expandWithin(
  text: string,
  { file, url, name, entryPath }: { file: string; url: string; name: string; entryPath: string },
): string {
  const values: Readonly<Record<string, string>> = { '%': '%', f: file, u: url, c: name, k: entryPath };
  // Whatever else there is has been deprecated and stands for nothing.
  return text.replace(/%(.)/g, (_whole, code: string) => values[code] ?? '');
}

/** Whether it takes files at all, and several at once. */
export function takesFiles(exec: string): 'none' | 'one' | 'many' {
  const codes = splitExec(exec)
    .filter(({ quoted }) => !quoted)
    .map(({ text }) => text);
  if (codes.some((code) => code === '%F' || code === '%U')) return 'many';
  return codes.some((code) => /%[fu]/.test(code)) ? 'one' : 'none';
}

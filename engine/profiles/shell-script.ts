/**
 * What a start script of an application leads to. Most are a few assignments and an `exec`; those are understood, and
 * of anything cleverer nothing is guessed. The script is read, never run. Pure.
 */
import { posix } from 'node:path';

const mostWords = 40;
/** What may stand before a command in the same line. */
const leading = /^(?:if|then|else|elif|do|while|until|!|\{|\(|exec|command|nohup|setsid|env)$/;
const ownName = /\$\{?(?:0|BASH_SOURCE\b)/;

export interface Started {
  /** A path, or a name to be looked for in PATH. */
  word: string;
  /** Whether the script ends in it, as by `exec`. */
  exec: boolean;
}

/** The programs that a shell script has in the place of commands, in order, with its variables filled in. */
export function programsIn(script: string, path: string, env: Readonly<Record<string, string>>): Started[] {
  const variables = new Map(Object.entries(env));
  const started: Started[] = [];
  for (const line of withOwnPath(script.replace(/\\\n/g, ' '), path).split('\n')) {
    if (/^\s*#/.test(line)) continue;
    for (const command of line.split(/;|&&|\|\||\||(?<![<>])&(?!>)/)) {
      const words = splitWords(command);
      let exec = false;
      for (const [index, word] of words.entries()) {
        const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s.exec(word) ?? [];
        if (name !== undefined && value !== undefined) {
          const text = expand(value, variables);
          // The first of several is the default that a script gives before it looks any closer.
          if (text !== undefined && !variables.has(name)) variables.set(name, text);
          continue;
        }
        if (/^(?:export|local|readonly|declare)$/.test(word)) continue;
        if (leading.test(word)) {
          exec ||= word === 'exec';
          continue;
        }
        // An option of exec, or a prefix that is empty unless somebody debugs.
        if (exec && (word.startsWith('-') || words[index - 1] === '-a' || isUnknown(word, variables)))
          continue;
        const text = expand(word, variables);
        if (text !== undefined && /^[\w@%+=:,./~-]+$/.test(text) && (exec || text.startsWith('/')))
          started.push({ word: text, exec });
        break;
      }
      if (started.length >= mostWords) return started;
    }
  }
  return started;
}

/** With what scripts compute from their own name to find their folder. What else they compute stays as it is. */
function withOwnPath(script: string, path: string): string {
  let filled = '';
  for (let at = 0; at < script.length; ) {
    const end = endOfSubstitution(script, at);
    const inner = script.slice(at, end);
    filled += (end > at ? ownPathIn(inner, path) : undefined) ?? (end > at ? inner : script.charAt(at));
    at = Math.max(end, at + 1);
  }
  return filled
    .replace(/\$\{(?:0|BASH_SOURCE(?:\[0\])?)%\/\*\}/g, posix.dirname(path))
    .replace(/\$\{(?:0|BASH_SOURCE(?:\[0\])?)##\*\/\}/g, posix.basename(path))
    .replace(/\$\{?BASH_SOURCE(?:\[0\])?\}?|\$\{0\}|\$0(?!\w)/g, path);
}

/** Those that say where the script is are short; one that is not closed must not be looked for to the end each time. */
const longestSubstitution = 1024;

/** Behind the `$(...)` or `` `...` `` that begins here; the same place where none does. */
function endOfSubstitution(text: string, start: number): number {
  if (text[start] === '`') {
    const end = text.indexOf('`', start + 1);
    return end < 0 ? start : end + 1;
  }
  if (!text.startsWith('$(', start)) return start;
  let depth = 0;
  for (let at = start + 1; at < Math.min(text.length, start + longestSubstitution); at++) {
    if (text[at] === '(') depth++;
    if (text[at] === ')' && --depth === 0) return at + 1;
  }
  return start;
}

function ownPathIn(substitution: string, path: string): string | undefined {
  if (!ownName.test(substitution)) return undefined;
  if (/\bdirname\b/.test(substitution)) return posix.dirname(path);
  if (/\bbasename\b/.test(substitution)) return posix.basename(path);
  return /\b(?:readlink|realpath)\b/.test(substitution) ? path : undefined;
}

/** The words of a simple command; quotes are taken away, what is in them stays together. */
function splitWords(command: string): string[] {
  const words: string[] = [];
  for (const [match] of command.matchAll(/(?:"(?:[^"\\]|\\.)*"|'[^']*'|\\.|[^\s"'\\])+/gs)) {
    if (match.startsWith('#')) break;
    words.push(
      match.replace(/"((?:[^"\\]|\\.)*)"|'([^']*)'/gs, (_whole, double, single) => double ?? single),
    );
  }
  return words;
}

const isUnknown = (word: string, variables: ReadonlyMap<string, string>) =>
  /^\$\w+$/.test(word) && expand(word, variables) === undefined;

/** With variables filled in; undefined where that cannot be said. */
function expand(text: string, variables: ReadonlyMap<string, string>): string | undefined {
  let known = true;
  const filled = text.replace(
    /\$(?:\{([A-Za-z_]\w*)(?::?[-=]([^}]*))?\}|([A-Za-z_]\w*))/g,
    (_whole, braced: string | undefined, otherwise: string | undefined, plain: string | undefined) => {
      const value = variables.get(braced ?? plain ?? '') ?? otherwise;
      known &&= value !== undefined;
      return value ?? '';
    },
  );
  return known && !/[$`]/.test(filled) ? filled : undefined;
}

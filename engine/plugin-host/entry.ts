/**
 * A file that says how a plugin is started: a service file as D-Bus has them (D-Bus specification, message bus starting
 * services), with keys of Torpor's own beside them.
 */
import { type PluginPolicy, pluginNamePattern, pluginPolicies } from '../../api/plugin-types.ts';

export const largestEntry = 16 * 1024;

export interface PluginEntry {
  name: string;
  /** Program and arguments. */
  exec: string[];
  /** What they need beside the environment of the user's session. */
  environment: Readonly<Record<string, string>>;
  /** What it starts is Torpor's own, and lies where Torpor does. */
  isOwn: boolean;
  /** What holds where the plugin cannot be asked. */
  policy: PluginPolicy;
  /** It is started with its user's first workload, and not only for a suspend. */
  isResident: boolean;
  /** Where this was read. */
  file: string;
}

/** How programs of Torpor's own are started, wherever it is installed; for files that name them by places. */
export interface OwnPrograms {
  /** What places such as `@BUILD@` stand for. */
  places: Readonly<Record<string, string>>;
  environment: Readonly<Record<string, string>>;
}

/** What is wrong with a file, which is left out. */
export interface EntryProblem {
  file: string;
  /** Its line, from 1; 0 where it is the whole. */
  line: number;
  what: string;
  /** The plugin is required, as far as can be told, so that a suspend cannot do without it. */
  required?: string;
}

type Values = Map<string, { value: string; line: number }>;

const group = '[D-BUS Service]';

/**
 * @returns the entry, or the first thing that is wrong with the text.
 */
export function parseEntry(text: string, file: string, own: OwnPrograms): PluginEntry | EntryProblem {
  const problem = (line: number, what: string): EntryProblem => ({ file, line, what, ...requiredIn(text) });
  if (Buffer.byteLength(text) > largestEntry) return problem(0, `it is larger than ${largestEntry} bytes`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u0008\u000e-\u001f\u007f]/.test(text)) return problem(0, 'it has control characters in it');
  const values: Values = new Map();
  let isInGroup = false;
  for (const [index, whole] of text.split('\n').entries()) {
    const line = whole.trim();
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) {
      isInGroup = line === group;
      continue;
    }
    if (!isInGroup) continue;
    const at = line.indexOf('=');
    if (at < 1) return problem(index + 1, 'a line of the form Key=Value was expected');
    values.set(line.slice(0, at).trim(), { value: line.slice(at + 1).trim(), line: index + 1 });
  }
  if (values.size === 0) return problem(0, `it has no group ${group}`);
  return entryOf(values, file, own, problem);
}

function entryOf(
  values: Values,
  file: string,
  own: OwnPrograms,
  problem: (line: number, what: string) => EntryProblem,
): PluginEntry | EntryProblem {
  const name = values.get('Name');
  if (name === undefined) return problem(0, 'the key Name is missing');
  if (!pluginNamePattern.test(name.value))
    return problem(name.line, `"${name.value}" is no bus name, such as org.example.Plugin`);
  const exec = values.get('Exec');
  if (exec === undefined) return problem(0, 'the key Exec is missing');
  // Word by word, since places may have spaces in them.
  const places = Object.entries(own.places);
  const words = wordsOf(exec.value)?.map((word) => filled(word, places));
  if (words === undefined) return problem(exec.line, 'a quote in Exec is not closed');
  if (!words[0]?.startsWith('/') || words[0].includes('='))
    return problem(exec.line, 'Exec must begin with an absolute path, without an equals sign in it');
  const policy = values.get('X-Torpor-Policy') ?? { value: 'optional', line: 0 };
  const known = pluginPolicies.find((each) => each === policy.value);
  if (known === undefined)
    return problem(
      policy.line,
      `X-Torpor-Policy is ${pluginPolicies.join(' or ')}, and not "${policy.value}"`,
    );
  const resident = values.get('X-Torpor-Resident') ?? { value: 'false', line: 0 };
  if (resident.value !== 'true' && resident.value !== 'false')
    return problem(resident.line, `X-Torpor-Resident is true or false, and not "${resident.value}"`);
  const isOwn = places.some(([place]) => exec.value.includes(place));
  return {
    name: name.value,
    exec: words,
    environment: isOwn ? own.environment : {},
    isOwn,
    policy: known,
    isResident: resident.value === 'true',
    file,
  };
}

const filled = (word: string, places: readonly [string, string][]): string =>
  places.reduce((text, [place, path]) => text.replaceAll(place, () => path), word);

/** Of a broken file too it should be known whether a suspend may do without it. */
function requiredIn(text: string): { required?: string } {
  if (!/^[ \t]*X-Torpor-Policy[ \t]*=[ \t]*required[ \t]*$/m.test(text)) return {};
  return { required: /^[ \t]*Name[ \t]*=[ \t]*([\w.-]{1,255})[ \t]*$/m.exec(text)?.[1] ?? 'a plugin' };
}

/** Words as a shell has them, with quotes and backslashes but nothing else. @returns undefined for an open quote. */
function wordsOf(line: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let index = 0; index < line.length; index++) {
    const character = line[index] ?? '';
    if (quote === '' && /\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (quote === '' && (character === '"' || character === "'")) {
      quote = character;
      word ??= '';
    } else if (character === quote) quote = '';
    else if (character === '\\' && quote !== "'") word = (word ?? '') + (line[++index] ?? '');
    else word = (word ?? '') + character;
  }
  if (quote !== '') return undefined;
  return word === undefined ? words : [...words, word];
}

/** From the text of a profile's file to the profile, or to what is wrong with it, by line. Pure. */
import { basename } from 'node:path';
import {
  isMap,
  isScalar,
  LineCounter,
  type Node,
  parseDocument,
  visit,
  type YAMLError,
  type Document as YamlDocument,
} from 'yaml';
import type { z } from 'zod';
import { type Origin, type Profile, type ProfileProblem, profileSchema } from './profile.ts';

/** No profile needs so much, and what is parsed is held in memory. */
export const largestFile = 64 * 1024;
/** One mistake often causes others; more than this help nobody. */
const mostProblems = 5;
const shownLength = 60;

export type Parsed =
  | { kind: 'profile'; profile: Profile }
  /** It stands for nothing but that a profile of this name is not to be used. */
  | { kind: 'disabled'; name: string }
  | { kind: 'broken'; name: string; problems: ProfileProblem[] };

export const profileName = (file: string) => basename(file).replace(/\.ya?ml$/, '');

/** @param text of the file, as far as {@link largestFile} and one byte more */
export function parseProfile(text: string, file: string, origin: Origin): Parsed {
  const name = profileName(file);
  const place = { file, origin };
  const broken = (problems: ProfileProblem[]): Parsed => ({
    kind: 'broken',
    name,
    problems: problems.slice(0, mostProblems),
  });
  if (Buffer.byteLength(text) > largestFile) {
    const expected = `a file of at most ${largestFile / 1024} KiB`;
    return broken([{ ...place, line: 1, column: 1, expected, found: 'a larger one' }]);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  if (document.errors.length > 0) {
    return broken(document.errors.map((error) => ({ ...place, ...describeError(error, document, lines) })));
  }
  const aliases = unknownAliases(document);
  if (aliases.length > 0) {
    const expected = 'a text in quotes, since it begins with an asterisk';
    return broken(
      aliases.map(({ offset, text }) => ({ ...place, ...at(lines, offset), expected, found: text })),
    );
  }
  keepAsWritten(document.get('environment'));
  const content = contentOf(document);
  if ('problem' in content) {
    return broken([{ ...place, line: 1, column: 1, expected: 'YAML', found: content.problem }]);
  }
  const result = profileSchema.safeParse(content.value);
  if (!result.success) {
    const issues = result.error.issues.flatMap(deepest);
    return broken(issues.map((issue) => ({ ...place, ...describe(issue, document, lines) })));
  }
  const { match, disabled, ...rest } = result.data;
  if (disabled) return { kind: 'disabled', name };
  if (match === undefined) {
    const found = 'none';
    return broken([
      { ...place, line: 1, column: 1, expected: 'the key "match", a list of conditions', found },
    ]);
  }
  return { kind: 'profile', profile: { ...rest, ...place, name, match } };
}

/** What YAML's own words would not tell somebody who writes a profile, in ours. */
function describeError(
  { code, message, pos }: YAMLError,
  document: YamlDocument,
  lines: LineCounter,
): Pick<ProfileProblem, 'line' | 'column' | 'expected' | 'found'> {
  if (code === 'MULTIPLE_DOCS')
    return { ...at(lines, pos[0]), expected: 'one profile in a file', found: 'a second one' };
  if (code === 'MISSING_CHAR' && message.includes('quote')) {
    // It is noticed at the next quote or at the end; what helps is where it was opened.
    const opened = quotedBefore(document, pos[0]) ?? pos[0];
    return { ...at(lines, opened), expected: 'YAML', found: 'a quote that is not closed' };
  }
  const found = message.replace(/\.$/, '').replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase());
  return { ...at(lines, pos[0]), expected: 'YAML', found };
}

/** Where the last text in quotes begins that begins before this place. */
function quotedBefore(document: YamlDocument, offset: number): number | undefined {
  let last: number | undefined;
  visit(document, {
    Scalar: (_key, { type, range }) => {
      if (type?.startsWith('QUOTE') && range && range[0] <= offset) last = Math.max(last ?? 0, range[0]);
    },
  });
  return last;
}

/** A pattern such as `*.exe` is to YAML the name of something said before. */
function unknownAliases(document: YamlDocument): { offset: number; text: string }[] {
  const found: { offset: number; text: string }[] = [];
  visit(document, {
    Alias: (_key, alias) => {
      if (alias.resolve(document) === undefined)
        found.push({ offset: alias.range?.[0] ?? 0, text: `"*${shorten(alias.source)}"` });
    },
  });
  return found;
}

/** A version of 1.10 is another one than 1.1. */
function keepAsWritten(variables: unknown): void {
  if (!isMap(variables)) return;
  for (const { value } of variables.items)
    if (isScalar(value) && /^(?:number|boolean)$/.test(typeof value.value)) value.value = value.source;
}

function contentOf(document: YamlDocument): { value: unknown } | { problem: string } {
  try {
    // Aliases of aliases could grow without end.
    return { value: document.toJS({ maxAliasCount: 20 }) };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

type Issue = z.core.$ZodIssue;

/** Of what fits no branch of a union, the branch that came closest says most. */
function deepest(issue: Issue): Issue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const branches = issue.errors.map((branch) =>
    branch.flatMap((each) => deepest({ ...each, path: [...issue.path, ...each.path] } as Issue)),
  );
  const depth = (branch: Issue[]) => Math.max(0, ...branch.map(({ path }) => path.length));
  const inside = branches.filter((branch) => depth(branch) > issue.path.length);
  const ofItsKind = branches.find((branch) => branch.every(({ code }) => code !== 'invalid_type'));
  return inside.sort((a, b) => depth(b) - depth(a))[0] ?? ofItsKind ?? [issue];
}

function describe(
  issue: Issue,
  document: YamlDocument,
  lines: LineCounter,
): Pick<ProfileProblem, 'line' | 'column' | 'expected' | 'found'> {
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys;
    return {
      ...at(lines, keyOffset(document, issue.path, key) ?? nodeOffset(document, issue.path)),
      expected: `one of the keys ${knownKeys(issue.path).join(', ')}`,
      found: `"${shorten(key)}"`,
    };
  }
  if (issue.code === 'invalid_key') {
    const key = String(issue.path.at(-1));
    return {
      ...at(lines, keyOffset(document, issue.path.slice(0, -1), key) ?? nodeOffset(document, issue.path)),
      expected: expectedBy(issue),
      found: `"${shorten(key)}"`,
    };
  }
  const node = document.getIn(issue.path, true) as Node | null | undefined;
  return {
    ...at(lines, nodeOffset(document, issue.path)),
    expected: expectedBy(issue),
    found: node ? words(node.toJS(document)) : 'nothing',
  };
}

function expectedBy(issue: Issue): string {
  const key = issue.path.findLast((part) => typeof part === 'string');
  const of = key === undefined ? '' : ` as "${key}"`;
  switch (issue.code) {
    case 'invalid_type':
      return `${kindWords[issue.expected] ?? issue.expected}${of}`;
    case 'invalid_value':
      return `one of ${issue.values.map((each) => String(each)).join(', ')}${of}`;
    case 'too_small':
      return issue.origin === 'array' ? `at least one entry${of}` : `a text that is not empty${of}`;
    case 'too_big':
      return `at most ${issue.maximum} ${issue.origin === 'array' ? 'entries' : 'letters'}${of}`;
    case 'invalid_format':
      return `${issue.message}${of}`;
    case 'invalid_key':
      return issue.issues[0]?.message ?? issue.message;
    case 'invalid_union':
      return `${unionWords(issue.path)}${of}`;
    default:
      return `${issue.message}${of}`;
  }
}

/** What may stand at a place at which one of several kinds of value may. */
function unionWords(path: readonly PropertyKey[]): string {
  if (path[0] === 'environment') return 'a text, a number, or true or false';
  return path[0] === 'note' || path.at(-1) === 'what'
    ? 'a text, or one each for en and de'
    : 'a text, or a list of texts';
}

const kindWords: Readonly<Record<string, string>> = {
  object: 'a map of keys and values',
  record: 'a map of names and values',
  array: 'a list',
  string: 'a text',
  boolean: 'true or false',
};

/** What a value is, in words that fit behind "found". */
function words(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a map';
  return `"${shorten(String(value))}"`;
}

const shorten = (text: string) => (text.length > shownLength ? `${text.slice(0, shownLength)}…` : text);

/** The keys there are at a place in a profile. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  const [first] = path;
  const shape = profileSchema.shape;
  if (first === undefined) return Object.keys(shape);
  const inner = {
    match: shape.match.unwrap().element.shape,
    findings: shape.findings.unwrap().element.shape,
    consent: shape.consent.unwrap().shape,
  }[String(first)];
  // What else has fixed keys is a text by language.
  return path.at(-1) === 'what' || first === 'note' || inner === undefined
    ? ['en', 'de']
    : Object.keys(inner);
}

function at(lines: LineCounter, offset: number | undefined): { line: number; column: number } {
  if (offset === undefined) return { line: 1, column: 1 };
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
}

/** Where a value begins; where there is none, what should hold it. */
function nodeOffset(document: YamlDocument, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length >= 0; length--) {
    const node = (length === 0 ? document.contents : document.getIn(path.slice(0, length), true)) as
      | Node
      | undefined
      | null;
    if (node?.range) return node.range[0];
  }
  return undefined;
}

function keyOffset(document: YamlDocument, path: readonly PropertyKey[], key: string): number | undefined {
  const map = path.length === 0 ? document.contents : document.getIn(path, true);
  if (!isMap(map)) return undefined;
  const found = map.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key);
  return isScalar(found?.key) ? found.key.range?.[0] : undefined;
}

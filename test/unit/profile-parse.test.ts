/** Profiles as their writers write them: what is understood, and that every mistake is told with its place. */
import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { type Parsed, parseProfile } from '../../engine/profiles/parse.ts';
import { problemSentence } from '../../engine/profiles/profile.ts';

const file = '/etc/torpor/profiles/example.yaml';
const parse = (text: string) => parseProfile(text, file, 'machine');

function problemsOf(parsed: Parsed): string[] {
  if (parsed.kind !== 'broken') throw new Error(`it is ${parsed.kind}`);
  return parsed.problems.map((problem) => problemSentence(problem));
}

describe('a profile', () => {
  it('has a name by its file, and texts in two languages or in one', () => {
    const parsed = parse(`
title: Example
match:
  - executable: example
    user: ordinary
  - desktop: [org.example.App, "com.example.*"]
environment: { ONE: 1, TWO: "two", THREE: true }
arguments: [--safe]
consent: { id: example-thing, what: { en: It gives up., de: Es gibt auf. }, unless: --unsafe }
note: Only English.
lock-files: [".~lock.{}#"]
`);
    expect(parsed).toMatchObject({
      kind: 'profile',
      profile: {
        name: 'example',
        origin: 'machine',
        file,
        match: [
          { executable: ['example'], user: 'ordinary' },
          { desktop: ['org.example.App', 'com.example.*'] },
        ],
        environment: { ONE: '1', TWO: 'two', THREE: 'true' },
        consent: { what: { en: 'It gives up.', de: 'Es gibt auf.' }, unless: ['--unsafe'] },
        note: { en: 'Only English.', de: 'Only English.' },
        findings: [],
      },
    });
  });

  it('has variables as they stand, whatever YAML would make of them', () => {
    const parsed = parse(
      'title: A\nmatch: [{executable: a}]\nenvironment: {A: 1.10, B: 0777, C: 0x10, D: True, E: 1e3}\n',
    );
    expect(parsed).toMatchObject({
      profile: { environment: { A: '1.10', B: '0777', C: '0x10', D: 'True', E: '1e3' } },
    });
  });

  it('can stand for the absence of one', () => {
    expect(parse('title: None\ndisabled: true\n')).toEqual({ kind: 'disabled', name: 'example' });
  });

  it.each([
    [
      'an unknown key',
      'title: A\nmatch:\n  - executable: a\nenviroment:\n  A: b\n',
      '4:1: expected one of the keys title, disabled, match, environment',
      'found "enviroment"',
    ],
    [
      'an unknown key of a condition',
      'title: A\nmatch:\n  - program: a\n',
      '3:5: expected one of the keys desktop, executable',
      'found "program"',
    ],
    [
      'an empty condition',
      'title: A\nmatch:\n  - {}\n',
      '3:5: expected at least one of its keys',
      'found a map',
    ],
    ['a text for a list', 'title: A\nmatch: firefox\n', '2:8: expected a list as "match"', 'found "firefox"'],
    [
      'a list for a map',
      'title: A\nmatch: [{executable: a}]\nenvironment:\n  - A=b\n',
      '4:3: expected a map of names and values as "environment"',
      'found a list',
    ],
    ['no title', 'match:\n  - executable: a\n', '1:1: expected a text as "title"', 'found nothing'],
    ['no match', 'title: A\n', '1:1: expected the key "match", a list of conditions', 'found none'],
    [
      'an argument that is none',
      'title: A\nmatch: [{executable: a}]\narguments:\n  - --good\n  - bad\n',
      '5:5: expected an option such as --name or --name=value',
      'found "bad"',
    ],
    [
      'an option and its value in one word',
      'title: A\nmatch: [{executable: a}]\narguments: [--name value]\n',
      '3:13: expected an option such as --name or --name=value',
      'found "--name value"',
    ],
    [
      'an argument that ends all options',
      'title: A\nmatch: [{executable: a}]\narguments: ["--"]\n',
      '3:13: expected an option such as --name or --name=value',
      'found "--"',
    ],
    [
      'a name that is no variable',
      'title: A\nmatch: [{executable: a}]\nenvironment:\n  A-B: c\n',
      '4:3: expected the name of an environment variable',
      'found "A-B"',
    ],
    [
      'a variable without a value',
      'title: A\nmatch: [{executable: a}]\nenvironment:\n  A:\n',
      '4:5: expected a text, a number, or true or false as "A"',
      'found nothing',
    ],
    [
      'a zero byte, which ends what a program is given',
      'title: A\nmatch: [{executable: a}]\nenvironment: {A: "b\\0c"}\n',
      '3:18: expected a text without zero bytes as "A"',
      'found "b',
    ],
    [
      'a pattern that YAML takes for something else',
      'title: A\nmatch:\n  - executable: [a, *.exe]\n',
      '3:21: expected a text in quotes, since it begins with an asterisk',
      'found "*.exe"',
    ],
    [
      'a path from the home folder',
      'title: A\nmatch: [{executable: ~/bin/a}]\n',
      '2:22: expected a name, or a path that begins with a slash or an asterisk as "executable"',
      'found "~/bin/a"',
    ],
    [
      'a path for what lies beside a program',
      'title: A\nmatch: [{beside: /opt/a/b}]\n',
      '2:18: expected a name relative to the folder of the program as "beside"',
      'found "/opt/a/b"',
    ],
    [
      'a path for a library',
      'title: A\nmatch: [{library: [libc.so.6, /usr/lib/libgtk-3.so.0]}]\n',
      '2:31: expected the name of a library without its folder as "library"',
      'found "/usr/lib/libgtk-3.so.0"',
    ],
    [
      'a verdict there is not',
      'title: A\nmatch: [{executable: a}]\nfindings:\n  - {tie: x, verdict: bad, what: y}\n',
      '4:23: expected one of handled, degraded, blocking as "verdict"',
      'found "bad"',
    ],
    [
      'a library there is not',
      'title: A\nmatch: [{executable: a}]\npreload: /tmp/evil.so\n',
      '3:10: expected one of chromium-sandbox as "preload"',
      'found "/tmp/evil.so"',
    ],
    [
      'a number for a pattern',
      'title: A\nmatch:\n  - executable:\n      - 5\n',
      '4:9: expected a text',
      'found "5"',
    ],
    [
      'a consent without a sentence',
      'title: A\nmatch: [{executable: a}]\nconsent:\n  id: thing\n',
      '4:3: expected a text, or one each for en and de as "what"',
      'found nothing',
    ],
    [
      'a language there is not',
      'title: A\nmatch: [{executable: a}]\nnote:\n  en: a\n  fr: b\n',
      '5:3: expected one of the keys en, de',
      'found "fr"',
    ],
    [
      'a lock file for no document',
      'title: A\nmatch: [{executable: a}]\nlock-files: [lock]\n',
      '3:14: expected a name with {} in it',
      'found "lock"',
    ],
    ['a key twice', 'title: A\ntitle: B\n', '2:1: expected YAML', 'map keys must be unique'],
    [
      'a quote that is not closed',
      'title: A\nmatch: [{executable: a}]\nnote: "Slow\nfindings: []\n',
      '3:7: expected YAML',
      'found a quote that is not closed',
    ],
    ['a second profile', 'title: A\n---\ntitle: B\n', '2:1: expected one profile', 'found a second one'],
    ['a tab for an indent', 'title: A\nmatch:\n\t- executable: a\n', '3:1: expected YAML', 'found'],
    ['nothing at all', '', '1:1: expected a map of keys and values', 'found nothing'],
    ['a text alone', 'just words', '1:1: expected a map of keys and values', 'found "just words"'],
    ['other bytes', '\u0000\u0001\u0002', 'expected', 'found'],
    [
      'aliases without end',
      `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`,
      'expected',
      'found',
    ],
    [
      'too much',
      `title: ${'a'.repeat(70_000)}`,
      '1:1: expected a file of at most 64 KiB',
      'found a larger one',
    ],
  ])('tells the place of %s', (_what, text, expected, found) => {
    const [problem = ''] = problemsOf(parse(text));
    expect(problem.startsWith(`${file}:`)).toBe(true);
    expect(problem).toContain(expected);
    expect(problem).toContain(found);
  });

  it('tells several mistakes at once, but not endlessly', () => {
    const text = `title: A\nmatch: [{executable: a}]\narguments: [${Array.from({ length: 50 }, () => 'x').join(', ')}]\n`;
    expect(problemsOf(parse(text))).toHaveLength(5);
  });
});

describe('the profiles that Torpor brings', async () => {
  const folder = new URL('../../profiles/', import.meta.url);
  const names = await readdir(folder);
  it('are there', () => expect(names.length).toBeGreaterThan(2));
  it.each(names)('%s has no mistake', async (name) => {
    const parsed = parseProfile(await readFile(new URL(name, folder), 'utf8'), name, 'torpor');
    expect(parsed.kind === 'broken' ? problemsOf(parsed) : []).toEqual([]);
    expect(parsed.kind).toBe('profile');
  });
});

/**
 * What an application profile is: which applications it is for, and what these need to be suspended and resumed. Every
 * profile is a YAML file of its own; docs/profiles.md describes the form for those who write one.
 */
import { z } from 'zod';
import { longestWait, verdicts } from '../../api/types.ts';

/** A sentence, by language; English is always there. */
const textSchema = z.union([
  z
    .string()
    .min(1)
    .transform((en) => ({ en, de: en })),
  z
    .strictObject({ en: z.string().min(1), de: z.string().min(1).optional() })
    .transform(({ en, de = en }) => ({
      en,
      de,
    })),
]);
export type Text = z.output<typeof textSchema>;

const word = z.string().min(1).max(200);
const oneOrMore = (each: typeof word) =>
  z.union([each.transform((only) => [only]), z.array(each).min(1).max(100)]);
const words = oneOrMore(word);
// Without these, what can never hold would be taken in silence.
const programs = oneOrMore(
  word.regex(/^(?:[^/]+|[/*].*)$/s, 'a name, or a path that begins with a slash or an asterisk'),
);
const besides = oneOrMore(word.regex(/^[^/]/, 'a name relative to the folder of the program'));
const libraries = oneOrMore(word.regex(/^[^/]+$/, 'the name of a library without its folder'));

/** The libraries of Torpor's own that a profile may have loaded into an application. */
export const preloads = ['chromium-sandbox'] as const;
export type Preload = (typeof preloads)[number];

/** All keys of a condition must hold, of a key one of its patterns. */
const conditionSchema = z
  .strictObject({
    /** Desktop ids, with or without `.desktop`. */
    desktop: words.optional(),
    /** Paths, or base names where there is no slash, of any program that the command leads to. */
    executable: programs.optional(),
    /** Names, relative to the folder of a program, of files that must be there. */
    beside: besides.optional(),
    /** Sonames of libraries that a program is linked to, directly or by way of others. */
    library: libraries.optional(),
    /** Modules that a program in Python imports, itself or in its own packages. */
    module: words.optional(),
    /** Words of the command line. */
    argument: words.optional(),
    format: z.enum(['appimage']).optional(),
    /** Who the application runs as. */
    user: z.enum(['root', 'ordinary']).optional(),
  })
  .refine((condition) => Object.keys(condition).length > 0, 'at least one of its keys');
export type Condition = z.output<typeof conditionSchema>;

const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/, 'small letters, digits and dashes');
const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'the name of an environment variable');
const value = z
  .union([z.string().regex(/^[^\0]*$/, 'a text without zero bytes'), z.number(), z.boolean()])
  .transform(String);
/** One word for one option: a value in a word of its own would be taken for a document. */
const option = z
  .string()
  .regex(/^--?[^\s=\0-][^\s=\0]*(?:=[^\0]*)?$/, 'an option such as --name or --name=value');

const findingSchema = z.strictObject({
  tie: name,
  verdict: z.enum(verdicts),
  what: z.string().min(1),
  hint: z.string().default(''),
});

/** The keys of a file; the file's own name is the profile's. */
export const profileSchema = z.strictObject({
  title: z.string().min(1),
  /** Left out wherever it would apply: how a user takes a shipped profile of this name out of use. */
  disabled: z.boolean().default(false),
  match: z.array(conditionSchema).min(1).max(50).optional(),
  environment: z.record(variable, value).default({}),
  /** Added after the program's own word, unless the user's words have them or their opposite. */
  arguments: z.array(option).default([]),
  preload: z.enum(preloads).optional(),
  /** What it costs, to be agreed to once for each user and application. */
  consent: z
    .strictObject({
      id: name,
      what: textSchema,
      /** With one of these words on the command line the user has decided already. */
      unless: words.default([]),
    })
    .optional(),
  /** What there is to tell when the application is started. */
  note: textSchema.optional(),
  /** Added to every inspection; one that blocks refuses the start. */
  findings: z.array(findingSchema).default([]),
  /** Names, with `{}` for a document's, of files by which the application marks what it has open. */
  'lock-files': z.array(z.string().regex(/\{\}/, 'a name with {} in it')).default([]),
  /** How long a resume waits for a network before the application runs, in seconds. */
  'wait-network': z.number().int().min(1).max(longestWait).optional(),
});
type ProfileFile = z.output<typeof profileSchema>;

/** Where a profile comes from; a later one replaces an earlier one of the same name. */
export const origins = ['torpor', 'machine', 'user'] as const;
export type Origin = (typeof origins)[number];

export interface Profile extends Omit<ProfileFile, 'match' | 'disabled'> {
  name: string;
  origin: Origin;
  file: string;
  match: Condition[];
}

/** What is wrong with a profile's file: where, what was expected and what is there. */
export interface ProfileProblem {
  file: string;
  origin: Origin;
  line: number;
  column: number;
  expected: string;
  found: string;
}

/** `FILE:3:5: expected …, found ….` */
export const problemSentence = ({ file, line, column, expected, found }: ProfileProblem): string =>
  `${file}:${line}:${column}: expected ${expected}, found ${found}.`;

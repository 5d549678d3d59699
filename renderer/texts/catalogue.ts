/** What a catalogue of texts is, and what each text has to be given, both taken from the English one. */
import type { en } from './en.ts';

export type MessageId = keyof typeof en;
export type Catalogue = Record<MessageId, string>;

/** Names in braces: `{bytes}` or the name before the comma of `{count, plural, ...}`; branches hold spaces or `#`. */
type Names<Text extends string> = Text extends `${string}{${infer Rest}` ? Name<Rest> | Names<Rest> : never;
type Name<Rest extends string> = Rest extends `${infer Inside}}${string}`
  ? Word<Inside extends `${infer First},${string}` ? First : Inside>
  : never;
type Word<Inside extends string> = Inside extends `${string} ${string}` ? never : Inside;

/** The values of a text, such as `{ title: string }`; never where it takes none. */
export type Values<Id extends MessageId> = [Names<(typeof en)[Id]>] extends [never]
  ? never
  : Record<Names<(typeof en)[Id]>, string | number>;

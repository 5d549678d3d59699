/** What the texts of the screen window are, taken from the English ones. */
import type { screenEn } from './en.ts';

export type ScreenMessageId = keyof typeof screenEn;
export type ScreenCatalogue = Record<ScreenMessageId, string>;

/** Names in braces: `{title}`, or the name before the comma of `{seconds, plural, ...}`; branches hold spaces or `#`. */
type Names<Text extends string> = Text extends `${string}{${infer Rest}` ? Name<Rest> | Names<Rest> : never;
type Name<Rest extends string> = Rest extends `${infer Inside}}${string}`
  ? Word<Inside extends `${infer First},${string}` ? First : Inside>
  : never;
type Word<Inside extends string> = Inside extends `${string} ${string}` ? never : Inside;

/** The values that a text has to be given; never where it takes none. */
export type ScreenValues<Id extends ScreenMessageId> = [Names<(typeof screenEn)[Id]>] extends [never]
  ? never
  : Record<Names<(typeof screenEn)[Id]>, string | number>;

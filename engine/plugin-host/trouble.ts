/** What plugins find, and what is wrong with them, as sentences. */
import type { PluginFinding } from '../../api/plugin-types.ts';
import type { Finding } from '../../api/types.ts';
import { oneLine } from './connected-plugin.ts';

/** A plugin that is not called, or that has failed. */
export interface PluginTrouble {
  name: string;
  title: string;
  required: boolean;
  /** Part of a sentence. */
  why: string;
}

/** What a plugin has found, as the engine's own findings are. */
export function findingOf(name: string, { tie, verdict, what, hint }: PluginFinding): Finding {
  return { tie, verdict, by: name, what: `${oneLine(what)}.`, hint: oneLine(hint) };
}

/** How a plugin is named in a sentence. */
export function called({ name, title }: Pick<PluginTrouble, 'name' | 'title'>): string {
  if (name === '') return 'A plugin';
  return title === '' ? `The plugin ${name}` : `The plugin ${oneLine(title)} (${name})`;
}

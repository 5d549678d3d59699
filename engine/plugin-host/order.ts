/** In which order plugins are called: what one comes after is ready before it, and lets go only after it. */
import type { PluginDescription } from '../../api/plugin-types.ts';

export interface Described {
  name: string;
  description: Pick<PluginDescription, 'after'>;
}

export interface Order<T extends Described> {
  /** In the order of a resume; a suspend goes the other way. Those of one level do not wait for each other. */
  levels: T[][];
  /** Those that cannot be called, and why. */
  refused: { plugin: T; why: string }[];
}

/**
 * @param plugins of one user, each name once.
 * @param known names of all there are: what comes after one that is not called waits for nothing.
 */
export function orderOf<T extends Described>(plugins: readonly T[], known: readonly string[]): Order<T> {
  const refused: Order<T>['refused'] = [];
  const names = new Set(known);
  let left = plugins.filter((plugin) => {
    const unknown = plugin.description.after.find((name) => !names.has(name));
    if (unknown !== undefined)
      refused.push({ plugin, why: `it comes after ${unknown}, and there is no such plugin` });
    return unknown === undefined;
  });
  const levels: T[][] = [];
  const waiting = new Set(left.map(({ name }) => name));
  while (left.length > 0) {
    const level = left.filter(({ description }) => !description.after.some((name) => waiting.has(name)));
    if (level.length === 0) {
      for (const plugin of left)
        refused.push({ plugin, why: `it comes after ${plugin.description.after.join(', ')}, in a circle` });
      break;
    }
    levels.push(level);
    for (const { name } of level) waiting.delete(name);
    left = left.filter((plugin) => !level.includes(plugin));
  }
  return { levels, refused };
}

/** What concerns the store as a whole: freeing what nobody needs, and how much it may take. */
import { TorporError } from '../../api/errors.ts';
import { type Settings, settingsSchema } from '../../api/types.ts';
import type { Command } from '../context.ts';
import { bytes, parseBytes, printable } from '../format.ts';

export const gc: Command = {
  definition: {
    name: 'gc',
    summary: 'free disk that no snapshot needs',
    description: [
      'Snapshots share what is the same in them, so the disk of a removed one is free only when what no other needs has been swept out. The engine does that by itself after a while; this does it now, and says how much came free. A suspend that is under way is waited for.',
      'Where something is damaged so that nobody knows what is needed, it is left as it is and named (exit code 1).',
    ],
    arguments: [],
    options: [],
    examples: [{ command: 'torpor gc', meaning: 'free the disk of snapshots that were removed' }],
  },
  async run(context) {
    const result = await (await context.engine()).collect();
    const { freedBytes, storedBytes, skipped } = result;
    const text = [
      ...skipped.map(printable),
      `${bytes(freedBytes)} freed; the memory of all snapshots takes ${bytes(storedBytes)}.`,
    ];
    context.result(result, text.join('\n'));
    if (skipped.length > 0)
      context.note('See `torpor verify --read-data`, and remove what is damaged (`torpor rm`).');
    return skipped.length === 0 ? 0 : 1;
  },
};

const none = 'none';

const words: Readonly<Record<string, boolean>> = { yes: true, no: false };

interface Setting {
  read(word: string): number | boolean | undefined;
  say(settings: Settings): string | undefined;
  /** What a word has to be, and examples. */
  kind: string;
  examples: string;
}

const yesOrNo = (key: 'leaveOutFreed' | 'trimHeaps'): Setting => ({
  read: (word) => words[word],
  say: (settings) => Object.keys(words).find((word) => words[word] === settings[key]),
  kind: 'yes or no',
  examples: 'yes, no',
});

/** The settings there are. */
const known: Record<keyof Settings, Setting> = {
  quotaBytes: {
    read: parseBytes,
    say: ({ quotaBytes }) => (quotaBytes === undefined ? undefined : bytes(quotaBytes)),
    kind: 'an amount of disk',
    examples: 'one such as 20G, 512M or 1.5T',
  },
  leaveOutFreed: yesOrNo('leaveOutFreed'),
  trimHeaps: yesOrNo('trimHeaps'),
};
const keys = Object.keys(known) as (keyof Settings)[];

function keyOf(word: string): keyof Settings {
  const key = keys.find((each) => each === word);
  if (key !== undefined) return key;
  throw new TorporError(
    'usage',
    `There is no setting "${printable(word)}".`,
    `There ${keys.length === 1 ? 'is' : 'are'}: ${keys.join(', ')}.`,
  );
}

export const settings: Command = {
  definition: {
    name: 'settings',
    summary: 'show or change settings of the engine',
    description: [
      'Shows the settings of the engine, which are for all users of the machine, or changes one. Only root may.',
      'quotaBytes is how much disk all snapshots together may take, such as 20G, or none. Before a suspend would exceed it, snapshots that were not used for the longest time are removed: never one that is kept (`torpor keep`), the newest of its workload, or one that is in use. Where that is not enough, nothing is suspended.',
      'leaveOutFreed, yes or no, is whether memory that applications have marked free (MADV_FREE), as some allocators and browsers do with their caches, is left out of snapshots. The kernel takes such memory whenever it needs some; with this it is asked to take it before a suspend. What an application has written to again since is saved in any case. Pages of files that nobody has changed are not saved either way: they are in the files.',
      'trimHeaps, yes or no, is whether applications that `torpor run` starts from then on give memory back to the system as soon as they have freed it, instead of keeping it for the next time, so that it is not saved either. That is for what uses the allocator of the GNU C library, jemalloc, tcmalloc or mimalloc; it costs time in applications that allocate and free much.',
    ],
    arguments: [
      { name: 'KEY', kind: 'text', optional: true },
      { name: 'VALUE', kind: 'text', optional: true },
    ],
    options: [],
    examples: [
      { command: 'torpor settings', meaning: 'show all' },
      { command: 'torpor settings quotaBytes 20G', meaning: 'all snapshots may take 20 GiB' },
      { command: 'torpor settings quotaBytes none', meaning: 'as much as there is room for' },
      { command: 'torpor settings leaveOutFreed yes', meaning: 'do not save memory that is marked free' },
      {
        command: 'torpor settings trimHeaps yes',
        meaning: 'what applications have freed is not kept by them',
      },
    ],
  },
  async run(context) {
    const [first, word] = context.invocation.arguments;
    const key = first === undefined ? undefined : keyOf(first);
    const engine = await context.engine();
    const before = await engine.settings();
    const now = key === undefined || word === undefined ? before : changed(before, key, word);
    if (now !== before) await engine.changeSettings(now);
    const shown = key === undefined ? keys : [key];
    const values = Object.fromEntries(shown.map((each) => [each, now[each] ?? null]));
    const text = shown.map((each) => `${each}: ${known[each].say(now) ?? none}`);
    context.result(values, text.join('\n'));
    return undefined;
  },
};

function changed(before: Settings, key: keyof Settings, word: string): Settings {
  const { [key]: _old, ...others } = before;
  if (word === none) return others;
  const { read, kind, examples } = known[key];
  const parsed = settingsSchema.safeParse({ ...others, [key]: read(word) ?? Number.NaN });
  if (parsed.success) return parsed.data;
  throw new TorporError('usage', `"${printable(word)}" is not ${kind}.`, `Give ${examples}, or none.`);
}

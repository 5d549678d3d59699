/** Looking at snapshots, checking and removing them. */
import { createInterface } from 'node:readline/promises';
import type { EngineClient } from '../../api/client.ts';
import { TorporError } from '../../api/errors.ts';
import {
  type Interval,
  intervalLimits,
  mostKeptLast,
  type Snapshot,
  subsetSchema,
  usualKeepLast,
} from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { duration, parseDuration } from '../duration.ts';
import { ago, bytes, intervalText, printable, seconds, table, workloadJson } from '../format.ts';
import { untilInterrupted } from '../interrupt.ts';
import { withOutcome } from '../lost-engine.ts';
import { withProgress } from '../progress.ts';

export const snapshots: Command = {
  definition: {
    name: 'snapshots',
    summary: 'list snapshots',
    description: [
      'Lists snapshots, newest first, of one workload or of all.',
      'Snapshots share what is the same in them. What one has in common with an older one counts for that one, so that all together take the sum of ON DISK, and removing an older one may free less than its figure.',
      `With --every it has the engine take them: of the workload, or of a process with its children, one at once and then one whenever that time has passed, while it runs on. Of these the last ${usualKeepLast} are there, older ones are removed; one that is kept (\`torpor keep\`) and those that were taken by hand stay. Where one cannot be taken, \`torpor snapshots\` and \`torpor ps\` say why, and the next one is tried in its turn. While the workload is suspended none are taken; when it runs again they are, also after the engine was started anew. The first one must succeed: otherwise nothing is set (exit code 3 where something blocks it).`,
    ],
    arguments: [{ name: 'W|PID', kind: 'workload', optional: true }],
    options: [
      { name: 'quiet', summary: 'Print only the ids.' },
      {
        name: 'every',
        value: 'TIME|off',
        summary: 'Take one at this interval from now on, such as 90s, 10m, 2h or 1d; or no more.',
      },
      {
        name: 'keep-last',
        value: 'N',
        summary: `With --every: how many of them are there at most; ${usualKeepLast} where it is not given.`,
      },
    ],
    examples: [
      { command: 'torpor snapshots gimp', meaning: 'the snapshots of GIMP' },
      {
        command: 'torpor snapshots --every 10m --keep-last 5 simulation',
        meaning: 'never lose more than ten minutes of a long computation',
      },
      { command: 'torpor snapshots --every off simulation', meaning: 'take no more of them' },
    ],
  },
  async run(context) {
    const target = context.invocation.arguments[0];
    const every = context.invocation.value('every');
    if (every !== undefined) return setEvery(context, target, every);
    if (context.invocation.value('keep-last') !== undefined)
      throw new TorporError(
        'usage',
        '--keep-last is about snapshots that are taken at an interval.',
        'Give it together with --every.',
      );
    const client = await context.engine();
    const list = await client.snapshots(target ?? '');
    const text = context.invocation.flag('quiet')
      ? list.map((snapshot) => snapshot.id).join('\n')
      : [await intervalsText(client, target), snapshotTable(list)].filter((part) => part !== '').join('\n\n');
    context.result(list, text);
    return undefined;
  },
};

/** Those that are taken at an interval. */
async function intervalsText(client: EngineClient, target: string | undefined): Promise<string> {
  const workloads = await client.list();
  // A workload that has been forgotten may still have snapshots, but takes none.
  const one = target === undefined ? undefined : await client.get(target).catch(() => undefined);
  return workloads
    .filter(({ id }) => target === undefined || id === one?.id)
    .flatMap(({ name, interval }) => (interval === undefined ? [] : [intervalText(name, interval)]))
    .join('\n');
}

/** @throws TorporError `usage`, or what a snapshot fails by. */
async function setEvery(context: Context, target: string | undefined, every: string): Promise<undefined> {
  if (target === undefined)
    throw new TorporError('usage', 'Of which workload are they to be taken?', 'Name one, see `torpor ps`.');
  const interval = every === 'off' ? undefined : intervalOf(context, every);
  const client = await context.engine();
  const workload = await (interval === undefined
    ? client.endInterval(target)
    : withOutcome(context, target, 'suspended', () =>
        untilInterrupted(context, client, [target], () =>
          withProgress(context, client, [target], () => client.setInterval(target, interval)),
        ),
      ));
  context.result(
    workloadJson(workload),
    workload.interval === undefined
      ? `No more snapshots of ${printable(workload.name)} are taken. Those that were taken stay.`
      : intervalText(workload.name, workload.interval),
  );
  return undefined;
}

/** @throws TorporError `usage`. */
function intervalOf(context: Context, every: string): Interval {
  const { shortest, longest } = intervalLimits;
  const everySeconds = parseDuration(every) ?? Number.NaN;
  if (!(everySeconds >= shortest && everySeconds <= longest))
    throw new TorporError(
      'usage',
      `"${every}" is no interval for snapshots.`,
      `Give --every a time from ${duration(shortest)} to ${duration(longest)}, such as 90s, 10m or 2h; or off.`,
    );
  const given = context.invocation.value('keep-last');
  const keepLast = given === undefined ? usualKeepLast : /^\d{1,4}$/.test(given) ? Number(given) : 0;
  if (keepLast < 1 || keepLast > mostKeptLast)
    throw new TorporError(
      'usage',
      `"${given}" is no number of snapshots.`,
      `Give --keep-last a number from 1 to ${mostKeptLast}.`,
    );
  return { everySeconds, keepLast };
}

function snapshotTable(list: readonly Snapshot[]): string {
  return table(
    ['SNAPSHOT', 'NAME', 'WORKLOAD', 'TAKEN', 'ON DISK', 'MEMORY', 'STOOD STILL', 'NOTE'],
    list.map((snapshot) =>
      snapshot.damaged === undefined
        ? [
            snapshot.id,
            snapshot.name,
            snapshot.workload,
            `${ago(snapshot.takenAt)} ago`,
            bytes(snapshot.bytesOnDisk),
            bytes(snapshot.memoryBytes),
            seconds(snapshot.standstillMs),
            noteOn(snapshot),
          ]
        : [snapshot.id, '', '', '', '', '', '', snapshot.damaged],
    ),
  );
}

function noteOn({ kept, atInterval, warm, usedAt }: Snapshot): string {
  const notes = [
    ...(kept ? ['kept'] : []),
    ...(warm ? ['for warm starts'] : []),
    ...(atInterval ? ['at interval'] : []),
    ...(usedAt === undefined ? [] : [`resumed ${ago(usedAt)} ago`]),
  ];
  return notes.join(', ');
}

export const keep: Command = {
  definition: {
    name: 'keep',
    summary: 'keep a snapshot from being removed',
    description: [
      'Marks a snapshot as one to keep: it is not removed, neither by `torpor rm` nor to make room, until the mark is taken away.',
    ],
    arguments: [{ name: 'SNAPSHOT', kind: 'snapshot' }],
    options: [{ name: 'no', summary: 'Take the mark away.' }],
    examples: [
      { command: 'torpor keep 3f2a9c', meaning: 'keep a state to go back to' },
      { command: 'torpor keep --no 3f2a9c', meaning: 'it may be removed again' },
    ],
  },
  async run(context) {
    const id = context.invocation.arguments[0] ?? '';
    const kept = !context.invocation.flag('no');
    await (await context.engine()).keep(id, kept);
    context.result(
      { snapshot: id, kept },
      `Snapshot ${printable(id)} ${kept ? 'is kept' : 'may be removed'}.`,
    );
    return undefined;
  },
};

/** On a terminal, asks before the only copy of an application's state is removed. */
async function confirmLoss(context: Context, id: string): Promise<boolean> {
  if (context.json || !process.stdin.isTTY) return true;
  const workloads = await (await context.engine()).list();
  const held = workloads.find(
    (workload) => workload.state === 'suspended' && workload.snapshot?.startsWith(id),
  );
  if (held === undefined) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(
    `This is all there is of the suspended ${printable(held.name)}. Remove it? [y/N] `,
  );
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}

export const rm: Command = {
  definition: {
    name: 'rm',
    summary: 'remove a snapshot',
    description: [
      'Removes a snapshot from disk. On a terminal it asks first where a suspended workload has no other. One that is kept is not removed (exit code 3).',
    ],
    arguments: [{ name: 'SNAPSHOT', kind: 'snapshot' }],
    options: [{ name: 'force', summary: 'Also where it is kept, and without asking.' }],
    examples: [{ command: 'torpor rm 3f2a9c', meaning: 'remove one snapshot' }],
  },
  async run(context) {
    const id = context.invocation.arguments[0] ?? '';
    const force = context.invocation.flag('force');
    if (!force && !(await confirmLoss(context, id))) throw new TorporError('failed', 'Nothing was removed.');
    const client = await context.engine();
    // A damaged one has no mark that could be taken away, and needs none taken.
    if (force) await client.keep(id, false).catch(unlessFailed);
    await client.remove(id);
    context.result({ removed: id }, `Snapshot ${printable(id)} is removed.`);
    return undefined;
  },
};

function unlessFailed(error: unknown): void {
  if (!(error instanceof TorporError) || error.code !== 'failed') throw error;
}

function subsetOf(word: string): string {
  const parsed = subsetSchema.safeParse(word);
  if (parsed.success) return parsed.data;
  throw new TorporError(
    'usage',
    `"${printable(word)}" names no part of the data.`,
    'Give one such as 5%, or 2/10 for the second of ten parts.',
  );
}

export const verify: Command = {
  definition: {
    name: 'verify',
    summary: 'check that snapshots are whole',
    description: [
      'Checks every snapshot: that its manifest is authentic and that its files, and all it needs of what snapshots share, are there; with --read-data every byte of them. Exit code 1 where one is damaged.',
      '--read-data-subset reads a part: 5% of it, another one each time, or the second of ten parts with 2/10, so that ten calls have read everything.',
    ],
    arguments: [],
    options: [
      { name: 'read-data', summary: 'Read all data and compare it with its hashes.' },
      { name: 'read-data-subset', value: 'PART', summary: 'Only a part of it: N% or N/M.' },
    ],
    examples: [
      { command: 'torpor verify --read-data', meaning: 'check every byte' },
      { command: 'torpor verify --read-data-subset 10%', meaning: 'check a tenth, chosen anew each time' },
    ],
  },
  async run(context) {
    const readData = context.invocation.flag('read-data');
    const part = context.invocation.value('read-data-subset');
    const subset = part === undefined ? undefined : subsetOf(part);
    const options = subset === undefined || readData ? { readData } : { readData, subset };
    const results = await (await context.engine()).verify(options);
    const bad = results.filter((result) => !result.ok);
    const read = results.reduce((sum, result) => sum + result.bytesRead, 0);
    const text = [
      ...bad.map((result) => result.problem),
      `${results.length - bad.length} of ${results.length} snapshots are whole${readData || subset !== undefined ? `, ${bytes(read)} read` : ''}.`,
    ].join('\n');
    context.result(results, text);
    return bad.length > 0 ? 1 : 0;
  },
};

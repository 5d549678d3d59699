/** Looking at snapshots, checking and removing them. */
import { createInterface } from 'node:readline/promises';
import { TorporError } from '../../api/errors.ts';
import { type Snapshot, subsetSchema } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { ago, bytes, printable, seconds, table } from '../format.ts';

export const snapshots: Command = {
  definition: {
    name: 'snapshots',
    summary: 'list snapshots',
    description: [
      'Lists snapshots, newest first, of one workload or of all.',
      'Snapshots share what is the same in them. What one has in common with an older one counts for that one, so that all together take the sum of ON DISK, and removing an older one may free less than its figure.',
    ],
    arguments: [{ name: 'W', kind: 'workload', optional: true }],
    options: [{ name: 'quiet', summary: 'Print only the ids.' }],
    examples: [{ command: 'torpor snapshots gimp', meaning: 'the snapshots of GIMP' }],
  },
  async run(context) {
    const list = await (await context.engine()).snapshots(context.invocation.arguments[0] ?? '');
    const text = context.invocation.flag('quiet')
      ? list.map((snapshot) => snapshot.id).join('\n')
      : table(
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
    context.result(list, text);
    return undefined;
  },
};

function noteOn({ kept, usedAt }: Snapshot): string {
  const notes = [...(kept ? ['kept'] : []), ...(usedAt === undefined ? [] : [`resumed ${ago(usedAt)} ago`])];
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

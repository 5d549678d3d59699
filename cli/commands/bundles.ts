/** Bundles: workloads on a medium that can be carried to another machine. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import {
  bundleForms,
  type ExportResult,
  type ImportResult,
  type ResumeResult,
  type Workload,
} from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { bytes, findingsText, printable, seconds, workloadJson } from '../format.ts';
import { untilInterrupted } from '../interrupt.ts';
import { migrate, parseDestination } from '../migration.ts';
import { readPassphrases } from '../passphrase.ts';
import { withProgress } from '../progress.ts';

/** Enough for everybody who is to open one bundle. */
const mostPassphrases = 8;

export const exportBundle: Command = {
  definition: {
    name: 'export',
    summary: 'write workloads into a bundle, to resume them on another machine',
    description: [
      'Writes workloads with all that they need elsewhere into one bundle at PATH: their memory, the programs, libraries and documents that they have open, and what --with names. It is encrypted: a passphrase is asked for on the terminal, or read from standard input where that is none. What runs is suspended first, all of it at one instant, and stays suspended here, with its snapshot; with --leave-running it runs on.',
      'PATH becomes a file where its name ends with .torpor, and a folder of its own otherwise. A folder that has a bundle gets only what has changed; its earlier state stays whole until the new one is written, synced and read back. When the command has ended the medium can be taken away.',
      'To ssh://USER@HOST the workloads move at once, to the Torpor there: what has to be sent goes there while they run on, then they are suspended, the last bit follows, and they are resumed there. They are given up here when they run there; whatever goes wrong before lets them run on here.',
      'On the other machine `torpor import PATH` takes it in; with --with-engine, `sh resume` in the folder, as root, does so where Torpor is not installed. What you do there comes home the same way: export there, import here.',
    ],
    arguments: [
      { name: 'W', kind: 'workload', repeated: true },
      { name: 'PATH|ssh://USER@HOST', kind: 'file' },
    ],
    options: [
      {
        name: 'with',
        value: 'FILE',
        repeated: true,
        summary: 'A file or folder that goes with it, such as a working folder or a profile.',
      },
      {
        name: 'with-engine',
        summary: 'Put Torpor itself beside it, for machines that have none. For a folder.',
      },
      { name: 'leave-running', summary: 'Do not suspend what runs; the bundle has it as it is now.' },
      {
        name: 'form',
        value: 'file|folder',
        summary: 'What PATH becomes, whatever its name.',
      },
      {
        name: 'passphrases',
        value: 'N',
        summary: `How many passphrases are asked for, each of which opens it; 1 where it is not given, at most ${mostPassphrases}. The first one opens a bundle that is there.`,
      },
      {
        name: 'remote-torpor',
        value: 'COMMAND',
        summary: 'With ssh: what is run there in place of `torpor`, such as "sudo torpor".',
      },
      {
        name: 'remote-user',
        value: 'U',
        summary: 'With ssh to root: whose it becomes there.',
      },
      {
        name: 'ssh-option',
        value: 'KEY=VALUE',
        repeated: true,
        summary: 'With ssh: an option for it, as in its -o.',
      },
    ],
    examples: [
      {
        command: 'torpor export gimp firefox /media/key/session/',
        meaning: 'put both on a USB key, as a folder that is updated the next time',
      },
      {
        command: 'torpor export --with-engine gimp /media/key/session/',
        meaning: 'to resume it where Torpor is not installed',
      },
      {
        command: 'torpor export --with ~/thesis editor ~/thesis.torpor',
        meaning: 'one file, with the folder that is worked in',
      },
      {
        command: 'torpor export simulation ssh://me@workstation',
        meaning: 'move it to another machine',
      },
    ],
  },
  async run(context) {
    const words = context.invocation.arguments;
    const [targets, given] = [words.slice(0, -1), words.at(-1)];
    if (given === undefined || targets.length === 0)
      throw new TorporError(
        'usage',
        'What is to be written, and where to?',
        'Name workloads (`torpor ps`), then the path: `torpor export gimp /media/key/session/`.',
      );
    if (given.startsWith('ssh://')) return moveAway(context, targets, given);
    const form = formOf(context, given);
    const isNew = !existsSync(given);
    const passphrases = await readPassphrases(
      Array.from({ length: passphraseCount(context) }, (_, index) => ({
        text: index === 0 ? 'Passphrase of the bundle' : `Passphrase ${index + 1}`,
        anew: isNew,
      })),
    );
    const path = resolve(given);
    const options = {
      ...{ path, passphrases, form },
      withEngine: context.invocation.flag('with-engine'),
      leaveRunning: context.invocation.flag('leave-running'),
      data: context.invocation.values('with').map((each) => resolve(each)),
    };
    const client = await context.engine();
    const result = await untilInterrupted(context, client, [path, ...targets], () =>
      withProgress(context, client, [path, ...targets], () => client.export(targets, options)),
    );
    const workloads = result.workloads.map(workloadJson);
    context.result({ ...result, workloads }, exportText(result));
    return undefined;
  },
};

async function moveAway(context: Context, targets: readonly string[], address: string): Promise<undefined> {
  const { invocation } = context;
  const destination = parseDestination(
    address,
    { torpor: invocation.value('remote-torpor') ?? 'torpor', user: invocation.value('remote-user') },
    invocation.values('ssh-option').flatMap((option) => ['-o', option]),
  );
  const client = await context.engine();
  const files = invocation.values('with').map((each) => resolve(each));
  const moved = await migrate(context, client, targets, destination, files);
  const names = moved.workloads.map(({ name }) => printable(name)).join(', ');
  const degraded = moved.findings.filter(({ verdict }) => verdict === 'degraded');
  context.result(
    moved,
    [
      `${names}: runs on ${destination.host} now. It stood still for ${seconds(moved.stoodStillMs)}; ${bytes(moved.bytesSent)} were sent, in ${moved.rounds + 1} parts.`,
      ...(degraded.length > 0 ? [findingsText(degraded)] : []),
    ].join('\n'),
  );
  return undefined;
}

/** @throws TorporError `usage`. */
function formOf(context: Context, path: string): (typeof bundleForms)[number] {
  const given = context.invocation.value('form') ?? (path.endsWith('/') ? 'folder' : 'auto');
  const form = bundleForms.find((each) => each === given);
  if (form !== undefined) return form;
  throw new TorporError('usage', `"${given}" is no form of a bundle.`, 'Give --form file or folder.');
}

/** @throws TorporError `usage`. */
function passphraseCount(context: Context): number {
  const given = context.invocation.value('passphrases') ?? '1';
  const count = /^\d$/.test(given) ? Number(given) : 0;
  if (count >= 1 && count <= mostPassphrases) return count;
  throw new TorporError(
    'usage',
    `"${given}" is no number of passphrases.`,
    `Give --passphrases a number from 1 to ${mostPassphrases}.`,
  );
}

function exportText(result: ExportResult): string {
  const { workloads, path, findings, tookMs } = result;
  const names = workloads.map(({ name }) => printable(name)).join(', ');
  const degraded = findings.filter(({ verdict }) => verdict === 'degraded');
  const amount =
    result.bytesWritten < result.bytes
      ? `${bytes(result.bytesWritten)} written of ${bytes(result.bytes)}`
      : bytes(result.bytes);
  return [
    `${names}: ${printable(path)} has all of it, ${amount} for ${bytes(result.memoryBytes)} of memory, after ${seconds(tookMs)}.`,
    'It is synced and read back: the medium can be removed.',
    ...(degraded.length > 0 ? [findingsText(degraded)] : []),
  ].join('\n');
}

export const importBundle: Command = {
  definition: {
    name: 'import',
    summary: 'take the workloads of a bundle in',
    description: [
      'Reads a bundle and has its workloads here, suspended, as your own: `torpor resume` lets them go on. The passphrase is asked for on the terminal, or read from standard input where that is none.',
      'Everything in it is checked before anything is started: it must be unchanged since it was written, and every process in it one that you could have started yourself. Otherwise nothing of it is taken in, and the reason is given.',
      'Its files lie over those of this machine, for these workloads alone; nothing of the machine changes. A bundle that comes home to the machine where its workloads were started brings back the documents that were changed elsewhere, and says what became of each: one that was changed here too is left alone, and the other one is put beside it.',
    ],
    arguments: [{ name: 'PATH', kind: 'file' }],
    options: [
      {
        name: 'user',
        value: 'U',
        summary: 'Whose it becomes; for root, and with sudo its caller where it is not given.',
      },
      { name: 'resume', summary: 'Resume all of it at once.' },
    ],
    examples: [
      { command: 'torpor import /media/key/session', meaning: 'take in what is on the key' },
      { command: 'torpor import --resume ~/thesis.torpor', meaning: 'and go on with it' },
    ],
  },
  async run(context) {
    const path = resolve(context.invocation.arguments[0] ?? '');
    const [passphrase = ''] = await readPassphrases([{ text: 'Passphrase of the bundle' }]);
    const user =
      context.invocation.value('user') ?? (process.getuid?.() === 0 ? process.env.SUDO_USER : undefined);
    const client = await context.engine();
    const imported = await untilInterrupted(context, client, [path], () =>
      withProgress(context, client, [path], () =>
        client.import({ path, passphrase, ...(user === undefined ? {} : { user }) }),
      ),
    );
    const ids = imported.workloads.map(({ id }) => id);
    const resumed: ResumeResult[] = context.invocation.flag('resume')
      ? await withProgress(context, client, ids, async () =>
          ids.length === 1 && ids[0] !== undefined
            ? [await client.resume(ids[0], { copy: false })]
            : client.resumeSet(ids, {}),
        )
      : [];
    const now = imported.workloads.map(
      (workload) => resumed.find((each) => each.workload.id === workload.id)?.workload ?? workload,
    );
    const findings = [...imported.findings, ...resumed.flatMap((each) => each.findings)];
    context.result(
      { ...imported, findings, workloads: now.map(workloadJson) },
      importText({ ...imported, findings, workloads: now }),
    );
    return undefined;
  },
};

const outcomes: Record<ImportResult['documents'][number]['outcome'], string> = {
  written: 'brought home',
  same: 'is the same here',
  beside: 'was changed here too; the other one is',
  kept: 'could not be written and is as it was',
};

function importText({ workloads, findings, documents, tookMs }: ImportResult): string {
  const line = ({ id, name, state }: Workload) =>
    `${printable(name)} is ${state} (${id})${state === 'suspended' ? `: \`torpor resume ${name}\`` : ''}`;
  const degraded = findings.filter(({ verdict }) => verdict === 'degraded');
  return [
    ...workloads.map(line),
    ...documents.map(
      ({ path, outcome, to }) =>
        `${printable(path)} ${outcomes[outcome]}${to === undefined ? '' : ` ${printable(to)}`}`,
    ),
    `Done after ${seconds(tookMs)}.`,
    ...(degraded.length > 0 ? [findingsText(degraded)] : []),
  ].join('\n');
}

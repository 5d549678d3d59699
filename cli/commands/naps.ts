/** Naps: memory back for a while, without a snapshot. */

import { TorporError } from '../../api/errors.ts';
import type { NapPlan, NapResult, WakeResult } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { bytes, findingsText, printable, seconds, table, workloadJson } from '../format.ts';

const blocked = 3;

function planText(plan: NapPlan): string {
  const { name, memoryBytes, gainBytes, fileBytes, swapBytes, swapFreeBytes, swapTotalBytes, zramRatio } =
    plan;
  const swap =
    swapTotalBytes === 0
      ? 'There is no swap here, so only what is of files can be given back.'
      : `${bytes(swapBytes)} would go to swap, of which ${bytes(swapFreeBytes)} are free${zramRatio === undefined ? '' : ` (in zram, ${zramRatio.toFixed(1)} times smaller)`}.`;
  return [
    `${printable(name)} has ${bytes(memoryBytes)} of memory; a nap would give back about ${bytes(gainBytes)}.`,
    swap,
    ...(fileBytes > 0 ? [`${bytes(fileBytes)} are of files, and would be read from disk again.`] : []),
    ...(plan.findings.length > 0 ? [findingsText(plan.findings)] : []),
  ].join('\n');
}

const whyStopped = {
  swap: 'Not all was written back: swap is nearly full.',
  pressure: 'Not all was written back: other programs have begun to wait for memory.',
} as const;

function napText({ workload, memoryBefore, memoryAfter, stopped, plan, ...result }: NapResult): string {
  const degraded = plan.findings.filter(({ verdict }) => verdict === 'degraded');
  return [
    `${printable(workload.name)} naps: ${bytes(memoryBefore)} of memory before, ${bytes(memoryAfter)} now.`,
    `The machine had ${bytes(result.availableBefore)} available, and has ${bytes(result.availableAfter)}.`,
    ...(stopped === undefined ? [] : [whyStopped[stopped]]),
    ...(degraded.length > 0 ? [findingsText(degraded)] : []),
    `\`torpor wake ${printable(workload.name)}\` lets it go on. It is lost when the machine shuts down.`,
  ].join('\n');
}

const wakeText = ({ workload, wakeMs }: WakeResult) =>
  `${printable(workload.name)} goes on, after ${seconds(wakeMs)}.`;

function targetOf({ invocation }: Context): string {
  const [target] = invocation.arguments;
  if (target === undefined) throw new TorporError('usage', 'Which one?', 'Name a workload or a pid.');
  return target;
}

async function setNever(
  context: Context,
  changes: readonly { name: string; isNever: boolean }[],
): Promise<number> {
  const client = await context.engine();
  for (const { name, isNever } of changes) await client.setNeverNap(name, isNever);
  const names = await client.neverNap();
  const text =
    names.length === 0 ? 'Every program may nap.' : `Never nap: ${names.map(printable).join(', ')}.`;
  context.result({ never: names }, text);
  return 0;
}

export const nap: Command = {
  definition: {
    name: 'nap',
    summary: 'hold an application still, and free its memory',
    description: [
      'Pauses a workload, or any program of yours by its pid with all that it has started, where it is, and has the kernel write its memory back to swap. It is back in a blink, by `wake`; it is lost when the machine shuts down, other than what is suspended.',
      'What others wait for is not put to a nap: X servers, compositors, sound servers, parts of the desktop, holders of a lock that another program wants (exit code 3). It stops where swap is nearly full or other programs begin to wait for memory.',
    ],
    arguments: [{ name: 'W|PID', kind: 'workload', optional: true }],
    options: [
      { name: 'dry-run', summary: 'Say what would be gained and what stands in the way, and do nothing.' },
      {
        name: 'anyway',
        summary:
          'Also while you are in its window, or it plays, records, downloads, runs in a terminal, or is never to nap.',
      },
      {
        name: 'never',
        value: 'NAME',
        summary: 'Never nap programs of this name, as `torpor memory` shows it.',
      },
      { name: 'allow', value: 'NAME', summary: 'Take that back.' },
      { name: 'list-never', summary: 'Say which programs never nap.' },
    ],
    examples: [
      { command: 'torpor nap --dry-run firefox', meaning: 'what it would gain' },
      { command: 'torpor nap 4711', meaning: 'any program of yours' },
      { command: 'torpor nap --never thunderbird', meaning: 'not this one, whoever asks' },
    ],
  },
  async run(context) {
    const { invocation } = context;
    const changes = [
      { name: invocation.value('never'), isNever: true },
      { name: invocation.value('allow'), isNever: false },
    ].flatMap(({ name, isNever }) => (name === undefined ? [] : [{ name, isNever }]));
    if (changes.length > 0 || invocation.flag('list-never')) return setNever(context, changes);
    const target = targetOf(context);
    const client = await context.engine();
    if (invocation.flag('dry-run')) {
      const plan = await client.planNap(target);
      context.result(plan, planText(plan));
      return plan.findings.some(({ verdict }) => verdict === 'blocking') ? blocked : 0;
    }
    const anyway = invocation.flag('anyway');
    const result = await client.nap(target, anyway ? { anyway } : {});
    context.result({ ...result, workload: workloadJson(result.workload) }, napText(result));
    return 0;
  },
};

export const wake: Command = {
  definition: {
    name: 'wake',
    summary: 'let what naps go on',
    description: ['Lets a workload or a program that naps go on where it was.'],
    arguments: [{ name: 'W|PID', kind: 'workload' }],
    options: [],
    examples: [{ command: 'torpor wake firefox', meaning: 'it goes on' }],
  },
  async run(context) {
    const result = await (await context.engine()).wake(targetOf(context));
    context.result({ ...result, workload: workloadJson(result.workload) }, wakeText(result));
    return 0;
  },
};

const milliseconds = (value: number | undefined) => (value === undefined ? '' : seconds(value));

export const memory: Command = {
  definition: {
    name: 'memory',
    summary: 'say what applications have of memory, and what putting them aside gains',
    description: [
      'Lists your applications, root those of all users, the one with the most memory first: workloads, and what Torpor did not start, by the pid that `nap` takes. SHARED and FILES are parts of MEMORY; ZRAM is the part of SWAP that is likely in memory still, compressed.',
      'What a suspend and a nap have gained, and a resume and a wake have cost, is what was measured on this machine the last few times with a program of that name; empty where it never was.',
    ],
    arguments: [],
    options: [],
    examples: [{ command: 'torpor memory', meaning: 'what there is to gain' }],
  },
  async run(context) {
    const report = await (await context.engine()).memory();
    const rows = report.applications.map(({ measured, ...each }) => [
      each.target,
      each.naps ? `${each.name} (naps)` : each.name,
      ...[each.pss, each.shared, each.file, each.swap, each.zram].map(bytes),
      measured.suspend === undefined ? '' : bytes(measured.suspend.gainBytes),
      milliseconds(measured.resume?.ms),
      measured.nap === undefined ? '' : bytes(measured.nap.gainBytes),
      milliseconds(measured.wake?.ms),
    ]);
    const head = ['TARGET', 'NAME', 'MEMORY', 'SHARED', 'FILES', 'SWAP', 'ZRAM', 'SUSPEND GAINS', 'RESUME'];
    const machine = `Of ${bytes(report.totalBytes)} of memory ${bytes(report.availableBytes)} are available; of ${bytes(report.swapTotalBytes)} of swap ${bytes(report.swapFreeBytes)} are free${report.zramRatio === undefined ? '' : ` (zram holds ${report.zramRatio.toFixed(1)} times what it takes)`}.`;
    context.result(report, `${table([...head, 'NAP GAINS', 'WAKE'], rows)}\n${machine}`);
    return undefined;
  },
};

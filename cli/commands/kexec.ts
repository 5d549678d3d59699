/** Going to another kernel with all that runs. */
import { TorporError } from '../../api/errors.ts';
import { type Arrival, isAlive, type KexecPlan, type KexecResult } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { bytes, findingsText, printable, seconds } from '../format.ts';
import { withProgress } from '../progress.ts';
import { leftText } from './session.ts';

const blocked = 3;

function planText(plan: KexecPlan): string {
  const { kernel, kernels, workloads, findings, bytesNeeded, bytesFree } = plan;
  const listed = kernels.map(({ version, isRunning, canRestore }) => {
    const marks = [...(isRunning ? ['runs now'] : []), ...(canRestore ? [] : ['cannot restore'])];
    return `  ${version}${marks.length > 0 ? ` (${marks.join(', ')})` : ''}`;
  });
  const names = workloads.map(({ name }) => printable(name)).join(', ');
  const notable = findings.filter(({ verdict }) => verdict !== 'handled');
  return [
    'Installed kernels:',
    ...listed,
    `The machine would go to ${kernel}, by ${plan.image}${plan.initrd === undefined ? '' : ` and ${plan.initrd}`}.`,
    workloads.length === 0
      ? 'Nothing runs that would be saved.'
      : `It would take along ${names}: up to ${bytes(bytesNeeded)} of disk, of ${bytes(bytesFree)} that are free.`,
    ...(notable.length > 0 ? [findingsText(notable)] : ['Nothing stands in the way.']),
  ].join('\n');
}

function resultText({ plan, session, left, saveMs, loadMs }: KexecResult): string {
  return [
    ...(session === undefined
      ? []
      : [`Saved ${session.members.map(({ name }) => printable(name)).join(', ')} in ${seconds(saveMs)}.`]),
    ...leftText(left),
    `The kernel ${plan.kernel} is loaded (${seconds(loadMs)}), and the machine goes to it now. What was saved comes back by itself; \`torpor kexec --status\` says so.`,
  ].join('\n');
}

async function dryRun(context: Context, kernel: string | undefined): Promise<number> {
  const client = await context.engine();
  const plan = await client.planKexec({
    ...(kernel === undefined ? {} : { kernel }),
    ...(context.invocation.flag('partial') ? { partial: true } : {}),
  });
  context.result(plan, planText(plan));
  return plan.findings.some(({ verdict }) => verdict === 'blocking') ? blocked : 0;
}

function arrivalText({ what, hint, left, took, firstMs, allMs }: Arrival): string {
  return [
    what,
    ...(took === undefined
      ? []
      : [
          `Before the jump: ${seconds(took.checkMs)} for the checks, ${seconds(took.loadMs)} to load the kernel, ${seconds(took.saveMs)} to save.`,
        ]),
    ...(firstMs === undefined
      ? []
      : [
          `The first ran again ${seconds(firstMs)} after the kernel had started, all after ${seconds(allMs ?? firstMs)}.`,
        ]),
    ...leftText(left),
    ...(hint === '' ? [] : [hint]),
  ].join('\n');
}

async function status(context: Context): Promise<number> {
  const arrival = await (await context.engine()).arrival();
  context.result(arrival, arrivalText(arrival));
  const { state, left } = arrival;
  return state === 'cannot-restore' || state === 'failed' || left.length > 0 ? 1 : 0;
}

export const kexec: Command = {
  definition: {
    name: 'kexec',
    summary: 'go to another kernel with all that runs',
    description: [
      'Saves all that runs at one instant, starts another kernel by kexec, without the firmware and the boot loader, and restores it there. Without --kernel it is the newest one that is installed. For root.',
      'Before anything is touched it looks whether the other kernel can restore (its configuration and modules), whether a small process that is checkpointed now comes back, whether all that runs can be suspended, and whether the disk has room; and it loads the kernel, which the running one may refuse. Whatever fails before the jump leaves all as it was (exit code 1, or 3 where something stands in the way).',
      'Programs outside of Torpor end as at any reboot: with systemd the machine is shut down in its order before the jump; without, it jumps at once.',
      'After the jump the engine first looks whether that small process comes back. If not, nothing that was saved is touched, and --status says how to go back.',
    ],
    arguments: [],
    options: [
      { name: 'kernel', value: 'VERSION', summary: 'Which one; --dry-run lists them.' },
      { name: 'dry-run', summary: 'Say what would be done and what stands in the way, and do nothing.' },
      {
        name: 'partial',
        summary: 'Go although not all can be saved: what cannot be suspended ends with the machine.',
      },
      { name: 'status', summary: 'Say what has become of the last jump.' },
    ],
    examples: [
      {
        command: 'sudo torpor kexec --dry-run',
        meaning: 'which kernels there are, and what stands in the way',
      },
      { command: 'sudo torpor kexec', meaning: 'go to the newest one' },
    ],
  },
  async run(context) {
    const { invocation } = context;
    const kernel = invocation.value('kernel');
    if (invocation.flag('status')) {
      if (kernel !== undefined || invocation.flag('dry-run') || invocation.flag('partial'))
        throw new TorporError('usage', '--status goes with nothing else.');
      return status(context);
    }
    if (invocation.flag('dry-run')) return dryRun(context, kernel);
    const client = await context.engine();
    const ids = (await client.list()).filter(isAlive).map(({ id }) => id);
    const result = await withProgress(context, client, ids, () =>
      client.kexec({
        ...(kernel === undefined ? {} : { kernel }),
        ...(invocation.flag('partial') ? { partial: true } : {}),
      }),
    );
    context.result(result, resultText(result));
    return 0;
  },
};

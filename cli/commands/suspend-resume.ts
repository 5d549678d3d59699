/** Suspending and resuming. */
import { TorporError } from '../../api/errors.ts';
import { clockChoices, lostSocketChoices, type ResumeResult, type SuspendResult } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { bytes, findingsText, printable, seconds, workloadJson } from '../format.ts';
import { untilInterrupted } from '../interrupt.ts';
import { withOutcome } from '../lost-engine.ts';
import { withProgress } from '../progress.ts';
import { choiceOf, secondsOf, socketOptions, suspendChoices } from '../suspend-choices.ts';

/** A snapshot with what the suspend did beside it. */
export function suspendJson(result: SuspendResult): object {
  return {
    ...result.snapshot,
    state: result.workload.state,
    freedBytes: result.freedBytes,
    pluginsMs: result.pluginsMs,
    findings: result.findings,
  };
}

export function suspendText(result: SuspendResult): string {
  const { snapshot, workload } = result;
  const what =
    result.freedBytes > 0
      ? `${printable(workload.name)} is suspended: ${bytes(result.freedBytes)} of memory free`
      : `${printable(workload.name)} runs on; snapshot taken`;
  const degraded = result.findings.filter((finding) => finding.verdict === 'degraded');
  return [
    `${what}, ${bytes(snapshot.bytesOnDisk)} on disk as ${snapshot.id}, safe after ${seconds(snapshot.durableMs)}.`,
    ...(degraded.length > 0 ? [findingsText(degraded)] : []),
  ].join('\n');
}

async function targetsOf(context: Context): Promise<readonly string[]> {
  const given = context.invocation.arguments;
  if (context.invocation.flag('all')) {
    if (given.length > 0) throw new TorporError('usage', '--all takes no names.', 'Leave out either.');
    const workloads = await (await context.engine()).list();
    return workloads
      .filter(({ state }) => state !== 'suspended' && state !== 'ended')
      .map((workload) => workload.id);
  }
  if (given.length === 0) {
    throw new TorporError(
      'usage',
      'Which workload is to be suspended?',
      'Name one, see `torpor ps`; or use --all.',
    );
  }
  return given;
}

export const suspend: Command = {
  definition: {
    name: 'suspend',
    summary: 'suspend workloads to disk',
    description: [
      'Saves the whole state of a workload to disk and frees its memory. The application is only paused until the snapshot is complete and durable; whatever fails before, and Ctrl+C, leaves it running as it was. Where something ties it to its surroundings that cannot be saved, nothing is touched and the reason is given (exit code 3).',
      'Several workloads are suspended at one instant: all of them, or none where one cannot be. They become a session; resumed together, unix sockets between them are connected again.',
    ],
    arguments: [{ name: 'W|PID', kind: 'workload', optional: true, repeated: true }],
    options: [
      { name: 'all', summary: 'All running workloads.' },
      { name: 'leave-running', summary: 'Take the snapshot and let the application run on.' },
      ...socketOptions,
    ],
    examples: [
      { command: 'torpor suspend gimp', meaning: 'suspend GIMP' },
      { command: 'torpor suspend server client', meaning: 'suspend both at the same instant' },
      { command: 'torpor suspend --all', meaning: 'suspend everything, as before a reboot' },
      { command: 'torpor suspend --leave-running gimp', meaning: 'keep a state to go back to' },
      {
        command: 'torpor suspend --external-sockets reconnect mpv',
        meaning: 'although it talks to a server outside, which it is connected to again',
      },
    ],
  },
  async run(context) {
    const targets = await targetsOf(context);
    const options = { leaveRunning: context.invocation.flag('leave-running'), ...suspendChoices(context) };
    const single = targets.length === 1 && !context.invocation.flag('all');
    const [first = ''] = targets;
    const results =
      targets.length === 0
        ? []
        : await withOutcome(context, first, 'suspended', (client) =>
            untilInterrupted(context, client, targets, () =>
              withProgress(context, client, targets, async () =>
                targets.length === 1
                  ? [await client.suspend(first, options)]
                  : client.suspendSet([...targets], options),
              ),
            ),
          );
    const documents = results.map(suspendJson);
    context.result(single ? documents[0] : documents, results.map(suspendText).join('\n'));
    return undefined;
  },
};

export function resumeJson({ workload, findings, resumeMs, criuMs, pluginsMs }: ResumeResult): object {
  return { ...workloadJson(workload), findings, resumeMs, criuMs, pluginsMs };
}

export function resumeText({ workload, findings, resumeMs }: ResumeResult): string {
  const notable = findings.filter(({ verdict, tie }) => verdict !== 'handled' || tie === 'session');
  return [
    `${printable(workload.name)} runs again after ${seconds(resumeMs)} (${workload.id}).`,
    ...(notable.length > 0 ? [findingsText(notable)] : []),
  ].join('\n');
}

export const resume: Command = {
  definition: {
    name: 'resume',
    summary: 'resume a workload from its snapshot',
    description: [
      'Brings a suspended workload back exactly as it was. A snapshot can be named instead, to go back to an earlier state. The snapshot is checked before anything starts and stays as it is, also when the resume fails or is given up by Ctrl+C.',
      'Of several none runs before all are restored, and all stay suspended where one cannot be. Unix sockets between workloads that were suspended at the same instant are connected again, with what was under way.',
    ],
    arguments: [{ name: 'W|SNAPSHOT', kind: 'workload', repeated: true }],
    options: [
      { name: 'copy', summary: 'As a second instance, beside one that runs.' },
      {
        name: 'clock',
        value: 'keep|advance',
        summary:
          'What time does to it: none has passed for it, which is the default, or its monotonic clock and its timers have gone on as if it had run, so that what was due meanwhile happens at once.',
      },
      {
        name: 'wait-network',
        value: 'SECONDS',
        summary:
          'Let it run only when the machine has a network, or after that time; 0 for an application whose profile would wait.',
      },
      {
        name: 'external-sockets',
        value: 'hang-up',
        summary:
          'Resume a job also where a message bus that it was connected to is not there: it finds the connection closed, by which many programs end.',
      },
      {
        name: 'eager',
        summary:
          'Let it run only when all its memory is there. Otherwise, where the kernel can, it runs at once and its memory is fetched meanwhile, what it asks for first.',
      },
    ],
    examples: [
      { command: 'torpor resume gimp', meaning: 'go on with GIMP' },
      { command: 'torpor resume server client', meaning: 'both, connected to each other as they were' },
      { command: 'torpor resume --copy 3f2a9c', meaning: 'a second instance from a snapshot' },
    ],
  },
  async run(context) {
    const targets = context.invocation.arguments;
    const [first = ''] = targets;
    const copy = context.invocation.flag('copy');
    const clock = choiceOf(context, 'clock', clockChoices, 'its clock');
    const waitNetwork = secondsOf(context, 'wait-network');
    const externalSockets = choiceOf(context, 'external-sockets', lostSocketChoices, 'external sockets');
    const choices = {
      ...(clock === undefined ? {} : { clock }),
      ...(waitNetwork === undefined ? {} : { waitNetwork }),
      ...(externalSockets === undefined ? {} : { externalSockets }),
      ...(context.invocation.flag('eager') ? { eager: true } : {}),
    };
    if (copy && targets.length > 1)
      throw new TorporError('usage', '--copy takes one name.', 'Make the copies one by one.');
    const results = await withOutcome(context, first, 'resumed', (client) =>
      untilInterrupted(context, client, targets, () =>
        withProgress(context, client, targets, async () =>
          targets.length === 1
            ? [await client.resume(first, { copy, ...choices })]
            : client.resumeSet([...targets], choices),
        ),
      ),
    );
    const documents = results.map(resumeJson);
    const text = results.map(resumeText).join('\n');
    context.result(targets.length === 1 ? documents[0] : documents, text);
    return undefined;
  },
};

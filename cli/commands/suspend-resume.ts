/** Suspending and resuming. */
import { exitCodes, TorporError } from '../../api/errors.ts';
import type { SuspendResult } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { bytes, findingsText, printable, seconds, workloadJson } from '../format.ts';
import { withOutcome } from '../lost-engine.ts';
import { withProgress } from '../progress.ts';

/** A snapshot with what the suspend did beside it. */
function suspendJson(result: SuspendResult): object {
  return {
    ...result.snapshot,
    state: result.workload.state,
    freedBytes: result.freedBytes,
    findings: result.findings,
  };
}

function suspendText(result: SuspendResult): string {
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
    return workloads.filter((workload) => workload.state === 'running').map((workload) => workload.id);
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
      'Saves the whole state of a workload to disk and frees its memory. The application is only paused until the snapshot is complete and durable; whatever fails before leaves it running as it was. Where something ties it to its surroundings that cannot be saved, nothing is touched and the reason is given (exit code 3).',
      'With several workloads each is suspended by itself; one that fails does not keep the others from it.',
    ],
    arguments: [{ name: 'W|PID', kind: 'workload', optional: true, repeated: true }],
    options: [
      { name: 'all', summary: 'All running workloads.' },
      { name: 'leave-running', summary: 'Take the snapshot and let the application run on.' },
    ],
    examples: [
      { command: 'torpor suspend gimp', meaning: 'suspend GIMP' },
      { command: 'torpor suspend --all', meaning: 'suspend everything, as before a reboot' },
      { command: 'torpor suspend --leave-running gimp', meaning: 'keep a state to go back to' },
    ],
  },
  async run(context) {
    const targets = await targetsOf(context);
    const leaveRunning = context.invocation.flag('leave-running');
    const single = targets.length === 1 && !context.invocation.flag('all');
    const documents: object[] = [];
    const texts: string[] = [];
    let worst = 0;
    for (const target of targets) {
      try {
        const result = await withOutcome(context, target, 'suspended', (client) =>
          withProgress(context, client, target, () => client.suspend(target, { leaveRunning })),
        );
        documents.push(suspendJson(result));
        texts.push(suspendText(result));
      } catch (error) {
        if (single || !(error instanceof TorporError)) throw error;
        worst = Math.max(worst, exitCodes[error.code]);
        documents.push({
          workload: target,
          error: { code: error.code, message: error.message, hint: error.hint, ...error.details },
        });
        context.note(`torpor: ${printable(error.message)}`);
        if (error.hint) context.note(`  ${error.hint}`);
      }
    }
    context.result(single ? documents[0] : documents, texts.join('\n'));
    return worst;
  },
};

export const resume: Command = {
  definition: {
    name: 'resume',
    summary: 'resume a workload from its snapshot',
    description: [
      'Brings a suspended workload back exactly as it was. A snapshot can be named instead, to go back to an earlier state. The snapshot is checked before anything starts and stays as it is, also when the resume fails.',
    ],
    arguments: [{ name: 'W|SNAPSHOT', kind: 'workload' }],
    options: [{ name: 'copy', summary: 'As a second instance, beside one that runs.' }],
    examples: [
      { command: 'torpor resume gimp', meaning: 'go on with GIMP' },
      { command: 'torpor resume --copy 3f2a9c', meaning: 'a second instance from a snapshot' },
    ],
  },
  async run(context) {
    const target = context.invocation.arguments[0] ?? '';
    const copy = context.invocation.flag('copy');
    const result = await withOutcome(context, target, 'resumed', (client) =>
      withProgress(context, client, target, () => client.resume(target, { copy })),
    );
    const { workload, findings, resumeMs, criuMs } = result;
    const notable = findings.filter((finding) => finding.verdict !== 'handled');
    const text = [
      `${printable(workload.name)} runs again after ${seconds(resumeMs)} (${workload.id}).`,
      ...(notable.length > 0 ? [findingsText(notable)] : []),
    ].join('\n');
    context.result({ ...workloadJson(workload), findings, resumeMs, criuMs }, text);
    return undefined;
  },
};

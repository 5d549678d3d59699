/** Sessions: workloads that are suspended at one instant under a name, and come back together. */
import { TorporError } from '../../api/errors.ts';
import type {
  LeftOut,
  Session,
  SessionMember,
  SessionRestoreResult,
  SessionSaveResult,
} from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { ago, bytes, findingsText, printable, table } from '../format.ts';
import { untilInterrupted } from '../interrupt.ts';
import { withProgress } from '../progress.ts';
import { socketOptions, suspendChoices } from '../suspend-choices.ts';
import { resumeJson, resumeText, suspendJson, suspendText } from './suspend-resume.ts';

type Action = (context: Context, name: string, targets: readonly string[]) => Promise<number | undefined>;

const leftText = (left: readonly LeftOut[]) =>
  left.flatMap(({ what, hint, findings }) => [
    [printable(what), printable(hint)].filter(Boolean).join(' '),
    ...(findings.length > 0 ? [findingsText(findings.filter(({ verdict }) => verdict === 'blocking'))] : []),
  ]);

function saveText({ session, suspended, left }: SessionSaveResult): string {
  const name = printable(session.name);
  return [
    ...suspended.map(suspendText),
    ...leftText(left),
    left.length === 0
      ? `The session ${name} is saved: \`torpor session restore ${name}\` brings it back, also after a reboot.`
      : `The session ${name} is saved without ${left.map((each) => printable(each.name)).join(', ')}: that runs on.`,
  ].join('\n');
}

const save: Action = async (context, name, targets) => {
  const options = {
    leaveRunning: context.invocation.flag('leave-running'),
    ...(context.invocation.flag('partial') ? { partial: true } : {}),
    ...(context.invocation.flag('replace') ? { replace: true } : {}),
    ...suspendChoices(context),
  };
  const client = await context.engine();
  const running = async () =>
    (await client.list()).filter(({ state }) => state === 'running').map(({ id }) => id);
  const members = targets.length > 0 ? targets : await running();
  const result = await untilInterrupted(context, client, members, () =>
    withProgress(context, client, members, () => client.saveSession(name, [...members], options)),
  );
  const { session, suspended, left } = result;
  context.result({ ...session, suspended: suspended.map(suspendJson), left }, saveText(result));
  return left.length === 0 ? 0 : 1;
};

function restoreText({ session, resumed, left }: SessionRestoreResult): string {
  if (resumed.length === 0 && left.length === 0) return `The session ${printable(session.name)} has nothing.`;
  return [...resumed.map(resumeText), ...leftText(left)].join('\n');
}

const restore: Action = async (context, name) => {
  const client = await context.engine();
  const session = (await client.sessions()).find((each) => each.name === name);
  const ready = session?.members.filter(({ state }) => state === 'ready') ?? [];
  const ids = ready.map(({ workload }) => workload);
  const choices = context.invocation.flag('eager') ? { eager: true } : {};
  const result = await untilInterrupted(context, client, ids, () =>
    withProgress(context, client, ids, () => client.restoreSession(name, choices)),
  );
  const { resumed, left } = result;
  context.result({ ...result.session, resumed: resumed.map(resumeJson), left }, restoreText(result));
  // What runs already is as the user wants it.
  return left.every(({ workload }) => memberOf(result.session, workload)?.state === 'running') ? 0 : 1;
};

const memberOf = ({ members }: Session, workload: string) =>
  members.find((member) => member.workload === workload);

const states: Record<SessionMember['state'], string> = {
  ready: '',
  running: 'runs',
  later: 'suspended anew since',
  gone: 'its snapshot is gone',
};

function lsText(sessions: readonly Session[]): string {
  if (sessions.length === 0) return 'No session is saved. `torpor session save NAME` saves all that runs.';
  return table(
    ['NAME', 'SAVED', 'MEMORY', 'HAS'],
    sessions.map(({ name, savedAt, memoryBytes, members }) => [
      printable(name),
      ago(savedAt),
      bytes(memoryBytes),
      members
        .map((each) => `${printable(each.name)}${states[each.state] && ` (${states[each.state]})`}`)
        .join(', '),
    ]),
  );
}

const ls = async (context: Context): Promise<undefined> => {
  const sessions = await (await context.engine()).sessions();
  context.result(sessions, lsText(sessions));
  return undefined;
};

const rm: Action = async (context, name) => {
  await (await context.engine()).forgetSession(name);
  context.result({ name }, `There is no session ${printable(name)} any more. What it had stays suspended.`);
  return undefined;
};

const named: Record<'save' | 'restore' | 'rm', Action> = { save, restore, rm };

function usage(sentence: string): TorporError {
  return new TorporError(
    'usage',
    sentence,
    'Give `session save NAME [W...]`, `session restore NAME`, `session ls` or `session rm NAME`.',
  );
}

export const session: Command = {
  definition: {
    name: 'session',
    summary: 'save and restore several workloads under a name',
    description: [
      '`session save NAME` suspends all that runs, or what is named, at one instant, and keeps it under a name: all of it or, where one cannot be suspended, nothing, unless --partial is given. `session restore NAME` brings it back, also after a reboot or under another kernel: what was used last comes first, and each can be used as soon as it is there. What cannot be resumed stays suspended and is named (exit code 1), and the others come all the same.',
      '`session ls` lists sessions. `session rm NAME` forgets the name; what the session has stays suspended.',
      'A name that is given anew is the new session’s, but where something of the old one is still suspended only with --replace.',
    ],
    arguments: [
      { name: 'ACTION', kind: 'text' },
      { name: 'NAME', kind: 'text', optional: true },
      { name: 'W|PID', kind: 'workload', optional: true, repeated: true },
    ],
    options: [
      {
        name: 'partial',
        summary: 'save: leave running what cannot be suspended, and save the others (exit code 1).',
      },
      { name: 'replace', summary: 'save: take the name from a session that is still suspended.' },
      { name: 'leave-running', summary: 'save: take the snapshots and let everything run on.' },
      { name: 'eager', summary: 'restore: let each run only when all its memory is there.' },
      ...socketOptions,
    ],
    examples: [
      { command: 'torpor session save evening', meaning: 'suspend everything before switching off' },
      { command: 'torpor session restore evening', meaning: 'and go on with it the next day' },
      {
        command: 'torpor session save thesis gimp firefox',
        meaning: 'two applications that belong together',
      },
      { command: 'torpor session ls', meaning: 'which sessions there are' },
    ],
  },
  async run(context) {
    const [action = '', name, ...targets] = context.invocation.arguments;
    if (action === 'ls') {
      if (name !== undefined) throw usage('`session ls` takes no name.');
      return ls(context);
    }
    const run = Object.entries(named).find(([each]) => each === action)?.[1];
    if (run === undefined) throw usage(`"${printable(action)}" is nothing that can be done with sessions.`);
    if (name === undefined) throw usage(`Which session is meant with \`session ${action}\`?`);
    if (action !== 'save' && targets.length > 0) throw usage(`\`session ${action}\` takes one name.`);
    return run(context, name, targets);
  },
};

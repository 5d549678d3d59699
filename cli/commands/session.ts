/** Sessions: workloads that are suspended at one instant under a name, and come back together. */
import { userInfo } from 'node:os';
import type { EngineClient } from '../../api/client.ts';
import { TorporError } from '../../api/errors.ts';
import {
  type LeftOut,
  type SaveEvent,
  type Session,
  type SessionMember,
  type SessionPolicyChange,
  type SessionPolicyState,
  type SessionRestoreResult,
  type SessionSaveResult,
  saveEvents,
} from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { ago, bytes, findingsText, printable, table } from '../format.ts';
import { untilInterrupted } from '../interrupt.ts';
import { withProgress } from '../progress.ts';
import { socketOptions, suspendChoices } from '../suspend-choices.ts';
import { resumeJson, resumeText, suspendJson, suspendText } from './suspend-resume.ts';

type Action = (context: Context, name: string, targets: readonly string[]) => Promise<number | undefined>;

export const leftText = (left: readonly LeftOut[]) =>
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
    (await client.list())
      .filter(({ state }) => state !== 'suspended' && state !== 'ended')
      .map(({ id }) => id);
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
  return bringBack(context, client, name, session, {});
};

/** What was saved for the caller by itself, where they have chosen so. */
async function restoreAtLogin(context: Context): Promise<number> {
  const client = await context.engine();
  const nothing = (text: string) => {
    context.result({ resumed: [], left: [] }, text);
    return 0;
  };
  if (!(await client.sessionPolicy()).restoreAtLogin)
    return nothing(
      'Nothing is restored at the log-in: `torpor session policy --restore-at-login yes` has it so.',
    );
  // After a jump to another kernel it is first seen whether that restores at all; what was saved for it comes back then.
  const arrival = await client.arrival();
  if (arrival.state === 'cannot-restore') return nothing(`${arrival.what} ${arrival.hint}`);
  const own = userInfo().username;
  // Only what was saved last: what somebody has left suspended for longer than that, they have for a reason.
  const session = (await client.sessions()).find(
    ({ reason, members }) => reason !== 'user' && members.some(({ user }) => user === own),
  );
  const waits = session?.members.some(({ user, state }) => state === 'ready' && user === own);
  if (session === undefined || !waits)
    return nothing('Nothing that was saved by itself waits to be restored.');
  // Another one may have that name.
  return bringBack(context, client, session.id, session, { own: true });
}

async function bringBack(
  context: Context,
  client: EngineClient,
  name: string,
  session: Session | undefined,
  which: { own?: boolean },
): Promise<number> {
  const ready = session?.members.filter(({ state }) => state === 'ready') ?? [];
  const ids = ready.map(({ workload }) => workload);
  const choices = { ...which, ...(context.invocation.flag('eager') ? { eager: true } : {}) };
  const result = await untilInterrupted(context, client, ids, () =>
    withProgress(context, client, ids, () => client.restoreSession(name, choices)),
  );
  const { resumed, left } = result;
  context.result({ ...result.session, resumed: resumed.map(resumeJson), left }, restoreText(result));
  // What runs already is as the user wants it.
  return left.every(({ workload }) => memberOf(result.session, workload)?.state === 'running') ? 0 : 1;
}

const memberOf = ({ members }: Session, workload: string) =>
  members.find((member) => member.workload === workload);

const states: Record<SessionMember['state'], string> = {
  ready: '',
  running: 'runs',
  later: 'suspended anew since',
  ended: 'ended since',
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

const yesOrNo: Readonly<Record<string, boolean>> = { yes: true, no: false };

function answerOf(context: Context, option: string): boolean | undefined {
  const word = context.invocation.value(option);
  const answer = word === undefined ? undefined : yesOrNo[word];
  if (word !== undefined && answer === undefined)
    throw new TorporError(
      'usage',
      `"${printable(word)}" is neither yes nor no.`,
      `Give --${option} yes or no.`,
    );
  return answer;
}

function eventsOf(context: Context): SaveEvent[] | undefined {
  const word = context.invocation.value('save-at');
  if (word === undefined) return undefined;
  if (word === 'none') return [];
  return word.split(',').map((each) => {
    const event = saveEvents.find((known) => known === each.trim());
    if (event !== undefined) return event;
    throw new TorporError(
      'usage',
      `"${printable(each)}" is nothing at which sessions can be saved.`,
      `Give none, or some of ${saveEvents.join(',')}.`,
    );
  });
}

function policyText({ saveAt, jobs, restoreAtLogin: restores, isTold }: SessionPolicyState): string {
  const what = jobs ? 'What runs, jobs too, is' : 'What runs in capsules is';
  return [
    saveAt.length === 0 ? 'Nothing is saved by itself.' : `${what} saved by itself at: ${saveAt.join(', ')}.`,
    ...(isTold || saveAt.length === 0
      ? []
      : ['But nothing is: the engine is told of shutdowns only on a system bus with a log-in manager.']),
    restores ? 'It is restored at the next log-in.' : 'It is not restored by itself.',
  ].join('\n');
}

async function policy(context: Context): Promise<undefined> {
  const events = eventsOf(context);
  const jobs = answerOf(context, 'jobs');
  const restores = answerOf(context, 'restore-at-login');
  const isForAll = context.invocation.flag('machine');
  const change: SessionPolicyChange = {
    ...(events === undefined ? {} : { saveAt: events }),
    ...(jobs === undefined ? {} : { jobs }),
    ...(restores === undefined ? {} : { restoreAtLogin: restores }),
  };
  if (isForAll && Object.keys(change).length === 0)
    throw usage('--machine says for whom something is chosen, and nothing is.');
  const client = await context.engine();
  const now =
    Object.keys(change).length === 0
      ? await client.sessionPolicy()
      : await client.setSessionPolicy({ ...change, ...(isForAll ? { machine: true } : {}) });
  context.result(now, policyText(now));
  return undefined;
}

const named: Record<'save' | 'restore' | 'rm', Action> = { save, restore, rm };

function usage(sentence: string): TorporError {
  return new TorporError(
    'usage',
    sentence,
    'Give `session save NAME [W...]`, `session restore NAME`, `session restore --at-login`, `session ls`, `session rm NAME` or `session policy`.',
  );
}

export const session: Command = {
  definition: {
    name: 'session',
    summary: 'save and restore several workloads under a name',
    description: [
      '`session save NAME` suspends all that runs, or what is named, at one instant, and keeps it under a name: all of it or, where one cannot be suspended, nothing, unless --partial is given. `session restore NAME` brings it back, also after a reboot or under another kernel: what was used last comes first, and each can be used as soon as it is there. What cannot be resumed stays suspended and is named (exit code 1), and the others come all the same.',
      '`session ls` lists sessions. `session rm NAME` forgets the name; what the session has stays suspended.',
      '`session policy` says what is saved by itself before the machine shuts down or its battery is empty, under the name of the reason, and changes it: by default what runs in capsules is saved at every shutdown, and nothing is restored by itself. With `--restore-at-login yes`, what was saved so comes back when you log in; that is what `session restore --at-login` does.',
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
      {
        name: 'at-login',
        summary: 'restore: what was saved by itself, if the policy says so; nothing to do is no failure.',
      },
      {
        name: 'save-at',
        value: 'EVENTS',
        summary: `policy: save at these, or at none: ${saveEvents.join(',')}.`,
      },
      { name: 'jobs', value: 'YES|NO', summary: 'policy: save jobs, too.' },
      {
        name: 'restore-at-login',
        value: 'YES|NO',
        summary: 'policy: restore what was saved by itself when you log in.',
      },
      { name: 'machine', summary: 'policy: choose for all who have not chosen themselves (root).' },
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
      {
        command: 'torpor session policy --restore-at-login yes',
        meaning: 'after a restart, go on where it was',
      },
    ],
  },
  async run(context) {
    const [action = '', name, ...targets] = context.invocation.arguments;
    if (action === 'ls') {
      if (name !== undefined) throw usage('`session ls` takes no name.');
      return ls(context);
    }
    if (action === 'policy') {
      if (name !== undefined) throw usage('`session policy` takes no name.');
      return policy(context);
    }
    if (action === 'restore' && context.invocation.flag('at-login')) {
      if (name !== undefined) throw usage('`session restore --at-login` takes no name.');
      return restoreAtLogin(context);
    }
    const run = Object.entries(named).find(([each]) => each === action)?.[1];
    if (run === undefined) throw usage(`"${printable(action)}" is nothing that can be done with sessions.`);
    if (name === undefined) throw usage(`Which session is meant with \`session ${action}\`?`);
    if (action !== 'save' && targets.length > 0) throw usage(`\`session ${action}\` takes one name.`);
    return run(context, name, targets);
  },
};

/** The engine's own rule and polkit's answer, together. */
import { readFileSync } from 'node:fs';
import { DBusError, type Message } from '@jellybrick/dbus-next';
import { describe, expect, it, vi } from 'vitest';
import type { BusConnection } from '../../api/connection.ts';
import { TorporError } from '../../api/errors.ts';
import {
  type Action,
  type Answer,
  type Asked,
  authorised,
  Polkit,
  rules,
} from '../../engine/bus/authorization.ts';
import type { Caller } from '../../engine/workload/registry.ts';
import { silent } from '../support/store.ts';

const refused = new TorporError('not-permitted', 'The workload belongs to another user.');
const caller = { uid: 1000, connection: ':1.7', pid: 42 };

/** The engine's rule lets root alone. */
const forRoot = async ({ uid }: Caller) => {
  if (uid !== 0) throw refused;
  return 'done';
};

async function outcome(
  method: Asked<string>['method'],
  answers: Partial<Record<Action, Answer>>,
  run: Asked<string>['run'],
  by: Asked<string>['caller'] = caller,
) {
  const asked: Action[] = [];
  const ask = async (action: Action) => {
    asked.push(action);
    return answers[action] ?? 'unknown';
  };
  const call = { caller: by, method, isInteractive: false, run };
  const result = await authorised(call, { ask }, silent).catch((error: TorporError) => error.message);
  return { result, asked };
}

it.each<[string, Partial<Record<Action, Answer>>, string]>([
  ['who authenticates is root', { own: 'yes', others: 'yes' }, 'done'],
  ['who does not is refused', { own: 'yes', others: 'no' }, refused.message],
  ['so is everybody where nobody answers', {}, refused.message],
  [
    'who is forbidden is not asked for more',
    { own: 'no', others: 'yes' },
    'A rule of this machine does not let you do that with Torpor.',
  ],
])("of another's workload %s", async (_what, answers, expected) => {
  expect((await outcome('end', answers, forRoot)).result).toBe(expected);
});

it('acts as root without the session of whoever asked, and leaves others who they are', async () => {
  const run = vi.fn(forRoot);
  await outcome('settings', { settings: 'yes' }, run);
  expect(run.mock.calls).toEqual([[caller], [{ uid: 0 }]]);
  const free = await outcome('list', { own: 'no' }, async ({ uid }) => String(uid));
  expect(free).toEqual({ result: '1000', asked: [] });
});

it('asks nobody about root, and never makes anything root’s', async () => {
  expect(await outcome('end', { own: 'no' }, forRoot, { ...caller, uid: 0 })).toEqual({
    result: 'done',
    asked: [],
  });
  for (const method of ['run', 'import', 'export', 'exec', 'picture', 'saveSession'] as const)
    expect((await outcome(method, { own: 'yes', others: 'yes' }, forRoot)).result).toBe(refused.message);
});

it('does a thing once where it fails for another reason', async () => {
  const run = vi.fn(() => Promise.reject(new TorporError('failed', 'It is busy.')));
  expect(await outcome('end', { own: 'yes', others: 'yes' }, run)).toEqual({
    result: 'It is busy.',
    asked: ['own'],
  });
  expect(run).toHaveBeenCalledTimes(1);
});

it('asks for actions that the policy has', () => {
  const policy = readFileSync(
    new URL('../../packaging/polkit/io.github.torpor.policy', import.meta.url),
    'utf8',
  );
  const asked = Object.values(rules).flatMap((rule) => [rule.own && 'own', rule.administrator]);
  for (const action of new Set(asked.filter(Boolean)))
    expect(policy).toContain(`<action id="io.github.torpor.${action}">`);
});

describe('polkit', () => {
  const allowed = { body: [[true, false, {}]] };
  const forPassword = { body: [[false, true, {}]] };
  const errorFrom = (sender: string) =>
    new DBusError('org.freedesktop.DBus.Error.Failed', 'no', { sender } as unknown as null);
  const ofPolkit = errorFrom(':1.3');
  const ofBus = errorFrom('org.freedesktop.DBus');

  /** Asks one that answers so, for a caller that is on the bus or has left it. */
  function ask(answers: (Error | { body: unknown[] })[], isThere: boolean): Promise<Answer> {
    const left = [...answers];
    const call = async ({ member }: Message) => {
      if (member === 'NameHasOwner') return { body: [isThere] };
      const answer = left.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    };
    const connection = { call } as unknown as BusConnection;
    return new Polkit(connection, silent).ask('own', ':1.7', 'run', true);
  }

  it.each<[string, (Error | { body: unknown[] })[], boolean, Answer]>([
    ['allows', [allowed], true, 'yes'],
    ['is not there', [ofBus], true, 'unknown'],
    ['is not there, for a caller that is not, either,', [ofBus], false, 'unknown'],
    ['fails', [ofPolkit], true, 'unknown'],
    ['cannot look at a caller that has left', [ofPolkit], false, 'no'],
    ['wants a password and gets it', [forPassword, allowed], true, 'yes'],
    ['wants a password and gets none', [forPassword, forPassword], true, 'no'],
    ['wants a password and fails', [forPassword, ofPolkit], true, 'no'],
    ['wants a password and goes', [forPassword, ofBus], true, 'no'],
  ])('that %s', async (_what, answers, isThere, expected) => {
    expect(await ask(answers, isThere)).toBe(expected);
  });
});

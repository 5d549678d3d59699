/** The engine's own rule and polkit's answer, together. */
import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { type Action, type Answer, type Asked, authorised, rules } from '../../engine/bus/authorization.ts';
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

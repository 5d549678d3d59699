/** What plays sound on a real sound server is not put to a nap unless told so. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { afterEach, expect, it, vi } from 'vitest';
import type { NapPlan } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { soundTool, UserSound } from '../support/sound.ts';

const patient = { timeout: 15_000, interval: 200 };
const started: ChildProcess[] = [];

afterEach(async () => {
  for (const child of started.splice(0)) await end(child, 'SIGKILL');
});

/** Silence without an end, which is sound all the same. */
function start(user: UserSound, ...options: string[]): number {
  const [program, ...args] = ['pacat', '--raw', ...options, '/dev/zero'];
  const recording = options.includes('--record');
  const child = spawn(soundTool(program ?? ''), recording ? args.slice(0, -1) : args, {
    env: { ...process.env, ...user.env },
    stdio: 'ignore',
  });
  started.push(child);
  return child.pid ?? 0;
}

it.each([
  ['plays', [], 'sound', /pacat .* is playing sound/],
  ['records', ['--record'], 'recording', /pacat .* is recording sound/],
] as const)('a program that %s', async (_, options, tie, what) => {
  await using user = await UserSound.create();
  await user.start();
  await using engine = await TestEngine.create({ env: user.env });
  const pid = start(user, ...options);
  const ties = async () => {
    const { stdout } = await engine.run(['nap', '--json', '--dry-run', String(pid)]);
    return (JSON.parse(stdout) as NapPlan).findings.map((each) => each.tie);
  };
  await vi.waitFor(async () => expect(await ties()).toContain(tie), patient);
  expect((await engine.failure(3, 'nap', String(pid))).message).toMatch(what);
  await engine.json('nap', '--anyway', String(pid));
  await engine.json('wake', String(pid));
});

it.each([
  ['where there is no sound server', {}],
  ['where its server is not there', { PULSE_SERVER: 'unix:/nowhere' }],
])('is looked for also %s, and no folder made for one', async (_, env) => {
  await using engine = await TestEngine.create();
  const child = spawn('sleep', ['1000'], { stdio: 'ignore', env });
  started.push(child);
  const folder = `/run/user/${process.getuid?.()}/pulse`;
  const before = existsSync(folder);
  const { findings } = await engine.json<NapPlan>('nap', '--dry-run', String(child.pid));
  expect(findings.filter(({ verdict }) => verdict === 'blocking')).toEqual([]);
  expect(existsSync(folder)).toBe(before);
});

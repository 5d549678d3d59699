/**
 * The engine under what its unit cannot set, each as systemd would set it: why decision 32 leaves it out. Where one of these
 * begins to work, that decision can be thought of again.
 */
import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { SystemEngine } from '../support/system-engine.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { canCheckpoint } from './criu-fixture.ts';

const filter = new URL('../fixtures/seccomp.py', import.meta.url).pathname;

let machine: SystemEngine;
let user: TestUser;

beforeAll(async () => {
  user = await makeUser('torpor-sd-1', 21525);
  machine = await SystemEngine.create();
});
afterEach(async () => {
  for (const { id, state } of await machine.json<Workload[]>(['ps'])) {
    if (state !== 'ended') await machine.torpor(['end', id]);
    await machine.torpor(['forget', id]);
  }
  await machine.stop();
});
afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
  await user?.[Symbol.asyncDispose]();
});

/** @param uid whose application it is. */
const start = (uid = 0) => machine.json<Workload>(['run', '--name', 'app', '--', 'sleep', '100000'], uid);

async function statusOf({ pids }: Workload, key: string): Promise<string> {
  const application = pids.at(-1);
  const text = await readFile(`/proc/${application}/status`, 'utf8');
  return new RegExp(`^${key}:\\s*(\\S+)$`, 'm').exec(text)?.[1] ?? '';
}

it('starts nothing for users under a mask that keeps files from others', async () => {
  await machine.start('sh', '-c', 'umask 077; exec "$@"', 'sh');
  const { code, stderr } = await machine.torpor(['run', '--', 'sleep', '100000'], user.uid);
  expect(code).toBe(1);
  expect(stderr).toContain('Permission denied');
});

it.runIf(canCheckpoint)('suspends nothing under any filter of system calls', async () => {
  await machine.start('python3', filter);
  await start();
  const { code } = await machine.torpor(['suspend', 'app']);
  expect(code).not.toBe(0);
});

it('has applications inherit that they can gain no rights, and which', async () => {
  await machine.start('setpriv', '--no-new-privs', '--bounding-set=-sys_boot');
  const app = await start(user.uid);
  expect(await statusOf(app, 'NoNewPrivs')).toBe('1');
  expect(BigInt(`0x${await statusOf(app, 'CapBnd')}`) & (1n << 22n)).toBe(0n);
});

it.runIf(canCheckpoint)('resumes nothing without CAP_SYS_TIME', async () => {
  await machine.start('setpriv', '--bounding-set=-sys_time');
  await start();
  expect(await machine.torpor(['suspend', 'app'])).toMatchObject({ code: 0 });
  expect(await machine.torpor(['resume', 'app'])).toMatchObject({ code: 1 });
});

/** Who may do what where a real polkit is asked: the default engine on a system bus, and rules of a test's own. */
import { type ChildProcess, execFile } from 'node:child_process';
import { copyFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import { killIfThere } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { SystemEngine } from '../support/system-engine.ts';
import { makeUser, type TestUser } from '../support/users.ts';

const run = promisify(execFile);
const leaver = new URL('../fixtures/leaves_bus.py', import.meta.url).pathname;
const packaged = new URL('../../packaging/polkit/io.github.torpor.policy', import.meta.url).pathname;

let machine: SystemEngine;
let polkit: ChildProcess | undefined;
/** Of whom the applications are; somebody else; who may act on others' applications; who may do nothing. */
let owner: TestUser;
let other: TestUser;
let admin: TestUser;
let forbidden: TestUser;

beforeAll(async () => {
  owner = await makeUser('torpor-sd-2', 21526);
  other = await makeUser('torpor-sd-3', 21527);
  admin = await makeUser('torpor-sd-4', 21528);
  forbidden = await makeUser('torpor-sd-5', 21529);
  machine = await SystemEngine.create();
  const mounts = ['/etc/polkit-1/rules.d', '/usr/share/polkit-1/actions']
    .map((folder) => `mount -t tmpfs -o mode=755 tmpfs ${folder}`)
    .join(' && ');
  await machine.services.run('sh', ['-c', mounts]);
  await copyFile(packaged, machine.services.seen('/usr/share/polkit-1/actions/io.github.torpor.policy'));
  await writeFile(
    machine.services.seen('/etc/polkit-1/rules.d/10-test.rules'),
    `polkit.addRule(function (action, subject) {
       if (action.lookup('method') === 'closeWindows') polkit.spawn(['/bin/sleep', '4']);
       if (action.id === 'io.github.torpor.own') {
         if (subject.user === '${forbidden.name}') return polkit.Result.NO;
         if (subject.user === '${owner.name}' && action.lookup('method') === 'keep') return polkit.Result.AUTH_SELF;
       }
       if (subject.user === '${admin.name}' && action.id !== 'io.github.torpor.encryption') return polkit.Result.YES;
     });`,
  );
  await startPolkit();
  await machine.start();
});
afterEach(async () => {
  if (polkit?.exitCode !== null || polkit.signalCode !== null) await startPolkit();
  for (const { id, state } of await machine.json<Workload[]>(['ps'])) {
    if (state !== 'ended') await machine.torpor(['end', id]);
    await machine.torpor(['forget', id]);
  }
});
afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
  for (const user of [owner, other, admin, forbidden]) await user?.[Symbol.asyncDispose]();
});

const authority = [
  ...['--dest', 'org.freedesktop.PolicyKit1', '--object-path', '/org/freedesktop/PolicyKit1/Authority'],
  '--method',
];

async function startPolkit(): Promise<void> {
  polkit = await machine.services.start(['/usr/lib/polkit-1/polkitd', '--no-debug']);
  await machine.soon(() =>
    machine.services.call(...authority, 'org.freedesktop.PolicyKit1.Authority.EnumerateActions', ''),
  );
}

const start = (user: TestUser) =>
  machine.json<Workload>(['run', '--name', 'app', '--', 'sleep', '100000'], user.uid);
const codeOf = async (user: TestUser, ...args: string[]) => (await machine.torpor(args, user.uid)).code;
const codes = async (...args: string[]) => [
  await codeOf(owner, ...args),
  await codeOf(other, ...args),
  await codeOf(admin, ...args),
];

it('knows all actions, in both languages', async () => {
  for (const [locale, word] of [
    ['en_US.UTF-8', 'other users'],
    ['de_DE.UTF-8', 'Anwendungen anderer'],
  ] as const) {
    const said = await machine.services.call(
      ...[...authority, 'org.freedesktop.PolicyKit1.Authority.EnumerateActions', locale],
    );
    const ids = Array.from(said.matchAll(/'io\.github\.torpor\.(\w+)'/g), ([, id]) => id);
    expect(ids.sort()).toEqual(['encryption', 'kexec', 'others', 'own', 'settings']);
    expect(said).toContain(word);
  }
});

it('lets owners do as ever, others nothing, and administrators what root may', async () => {
  const { id } = await start(owner);
  expect(await codes('windows', id)).toEqual([0, 5, 0]);
  expect(await codeOf(other, 'end', id)).toBe(5);
  expect(await codeOf(owner, 'end', id)).toBe(0);
  const { id: next } = await start(owner);
  expect(await codeOf(admin, 'end', next)).toBe(0);
  expect(await machine.log()).toContain('"action":"others","msg":"acts as root by polkit"');
  // It stays its owner's.
  expect(await codeOf(owner, 'forget', next)).toBe(0);
});

it('lets administrators change settings, and nobody else', async () => {
  expect(await codes('settings')).toEqual([5, 5, 0]);
  expect(await codes('settings', 'leaveOutFreed', 'yes')).toEqual([5, 5, 0]);
  expect(await machine.json(['settings'])).toMatchObject({ leaveOutFreed: true });
  expect(await codes('encryption')).toEqual([5, 5, 5]);
});

it('forbids what a rule forbids, also to the owner, by the method', async () => {
  const { code, stderr } = await machine.torpor(['run', '--', 'sleep', '9'], forbidden.uid);
  expect(code).toBe(5);
  expect(stderr).toContain('A rule of this machine does not let you do that');
  expect(await codeOf(forbidden, 'ps')).toBe(0);
  // Nobody is there who could ask for the password.
  expect(await codeOf(owner, 'keep', 'abcdef')).toBe(5);
  expect(await codeOf(owner, 'rm', 'abcdef')).toBe(4);
});

it('forbids it also to who leaves the bus before polkit can look', async () => {
  const [program = '', ...args] = machine.services.commandAs(forbidden.uid);
  await machine.soon(async () => {
    await run(program, [...args, '/usr/bin/python3', leaver]);
    expect(await machine.log()).toContain('the caller left before polkit could look at it');
  });
  expect(await machine.json(['session', 'policy'], forbidden.uid)).toMatchObject({ jobs: false });
});

it("keeps the engine's own rule where polkit is killed in the middle, and is asked again later", async () => {
  const { id } = await start(owner);
  const closing = codeOf(owner, 'windows', id, '--close');
  await sleep(1500);
  await end(polkit);
  expect(await closing).toBe(0);
  expect(await codeOf(other, 'end', id)).toBe(5);
  expect(await codeOf(admin, 'end', id)).toBe(5);
  expect(await codeOf(forbidden, 'run', '--name', 'own', '--', 'sleep', '9999')).toBe(0);
  expect(await machine.log()).toContain("polkit cannot be asked; the engine's own rule counts");
  await startPolkit();
  expect(await codeOf(forbidden, 'end', 'own')).toBe(5);
  expect(await codeOf(admin, 'end', 'own')).toBe(0);
  expect(await machine.log()).toContain('polkit answers again');
});

it("keeps the engine's own rule where polkit hangs, and waits for it once", async () => {
  const { id } = await start(owner);
  const pid = polkit?.pid ?? 0;
  killIfThere(pid, 'SIGSTOP');
  try {
    const began = Date.now();
    expect(await codeOf(other, 'windows', id)).toBe(5);
    expect(await codeOf(owner, 'windows', id)).toBe(0);
    expect(await codeOf(admin, 'end', id)).toBe(5);
    expect(await codeOf(owner, 'end', id)).toBe(0);
    expect(Date.now() - began).toBeLessThan(10_000);
    expect(await machine.log()).toContain('it has not answered in 5 seconds');
  } finally {
    killIfThere(pid, 'SIGCONT');
  }
  await machine.soon(async () => expect(await codeOf(forbidden, 'run', '--', 'sleep', '9')).toBe(5));
});

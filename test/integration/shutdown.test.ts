/**
 * What a shutdown, or a battery that is nearly empty, does to applications: the default engine on a system bus, beside a real
 * log-in manager, whose last step finds a stand-in of systemd.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Session, SessionPolicy, Workload } from '../../api/types.ts';
import { type StandIn, SystemEngine } from '../support/system-engine.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);

let machine: SystemEngine;
let user: TestUser;

beforeAll(async () => {
  user = await makeUser('torpor-sd-1', 21525);
  machine = await SystemEngine.create();
});
afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
  await user?.[Symbol.asyncDispose]();
});
beforeEach(() => machine.clearConsole());
afterEach(async () => {
  for (const { id, state } of await ps()) if (state !== 'ended') await machine.torpor(['end', id]);
  for (const { id } of await ps()) await machine.torpor(['forget', id]);
  await policy('--save-at', 'reboot,kexec,power-off', '--restore-at-login', 'no');
  await machine.stop();
});

const ps = () => machine.json<Workload[]>(['ps']);
const states = async () => (await ps()).map(({ name, state }) => [name, state]);
const sessions = () => machine.json<Session[]>(['session', 'ls']);
const policy = (...args: string[]) => machine.json<SessionPolicy>(['session', 'policy', ...args], user.uid);
const start = (name: string, command = ['sleep', '100000']) =>
  machine.json<Workload>(['run', '--name', name, '--', ...command], user.uid);
const soon = <T>(check: () => Promise<T>) => machine.soon(check);
const become = (expected: string[][]) => soon(async () => expect(await states()).toEqual(expected));

const held = async () =>
  (await machine.services.inhibitors()).map(({ what, who, mode }) => [what, who, mode]);
const ours = ['shutdown', 'Torpor', 'delay'];
const isHeld = (all: string[][]) => soon(async () => expect(await held()).toEqual(all));

/** As `systemctl reboot` asks: the log-in manager of this namespace, with nothing behind it that could do it. */
const askFor = (member: 'Reboot' | 'PowerOff') =>
  machine.services.call(
    ...['--dest', 'org.freedesktop.login1', '--object-path', '/org/freedesktop/login1'],
    ...['--method', `org.freedesktop.login1.Manager.${member}`, 'false'],
  );

it('is started by whoever logs in, where it does not run', async () => {
  const login = () => machine.torpor(['session', 'restore', '--at-login'], user.uid);
  expect(await login()).toMatchObject({ code: 5, stderr: expect.stringContaining('is not running') });
  await machine.startWhenCalled();
  expect(await login()).toMatchObject({ code: 0, stdout: expect.stringContaining('Nothing is restored') });
  // There is no log-in manager, and nobody is to think that there were.
  expect(await machine.torpor(['session', 'policy'], user.uid)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('But nothing is'),
  });
});

async function limit(time: string): Promise<void> {
  const folder = machine.services.seen('/run/systemd/logind.conf.d');
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}/test.conf`, `[Login]\nInhibitDelayMaxSec=${time}\n`);
}

const ownerOf = [
  ...['--dest', 'org.freedesktop.DBus', '--object-path', '/org/freedesktop/DBus'],
  ...['--method', 'org.freedesktop.DBus.GetNameOwner', 'io.github.torpor.Engine1'],
];
const uniqueName = (said: string) => /:[\d.]+/.exec(said)?.[0] ?? '';

describe('with the real log-in manager', () => {
  let systemd: StandIn;

  beforeEach(async () => {
    systemd = await machine.standIn('systemd1');
    await limit('60s');
    await machine.services.startLogind();
    await machine.start();
  });
  afterEach(async () => {
    await machine.services.endLogind();
    await systemd[Symbol.asyncDispose]();
    await rm(machine.services.seen('/run/systemd/inhibit'), { recursive: true, force: true });
  });

  it('a shutdown is to wait only while there is something to save', async () => {
    await isHeld([]);
    const { id } = await start('app');
    await isHeld([ours]);
    expect(await policy('--save-at', 'none')).toEqual({
      ...{ saveAt: [], jobs: false, restoreAtLogin: false, isTold: true },
    });
    await isHeld([]);
    await policy('--save-at', 'power-off');
    await isHeld([ours]);
    // At which it is no shutdown that is waited for.
    await policy('--save-at', 'low-battery');
    await isHeld([]);
    await policy('--save-at', 'reboot');
    await isHeld([ours]);
    await machine.services.endLogind();
    await machine.services.startLogind();
    await isHeld([ours]);
    await machine.torpor(['end', id]);
    await isHeld([]);
  });

  it.runIf(canCheckpoint)(
    'applications are saved before systemd is told, and restored at the log-in',
    async () => {
      await start('app');
      await isHeld([ours]);
      await askFor('Reboot');
      await soon(async () => expect(await systemd.said()).toContain('StartUnit reboot.target'));
      expect(await states()).toEqual([['app', 'suspended']]);
      expect(await held()).toEqual([]);
      expect(await sessions()).toMatchObject([
        { name: 'shutdown', reason: 'shutdown', members: [{ name: 'app', state: 'ready', user: user.name }] },
      ]);
      expect(await machine.console()).toBe('');
      await machine.stop();
      await machine.services.endLogind();
      await machine.services.startLogind();
      await machine.start();
      const login = () => machine.torpor(['session', 'restore', '--at-login'], user.uid);
      expect(await login()).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('Nothing is restored'),
      });
      expect(await states()).toEqual([['app', 'suspended']]);
      await policy('--restore-at-login', 'yes');
      // Of what is another's, root at its log-in wants nothing.
      await machine.torpor(['session', 'policy', '--restore-at-login', 'yes']);
      expect(await machine.torpor(['session', 'restore', '--at-login'])).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('Nothing that was saved'),
      });
      expect(await login()).toMatchObject({ code: 0, stdout: expect.stringContaining('app') });
      expect(await states()).toEqual([['app', 'running']]);
      expect(await login()).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('Nothing that was saved'),
      });
    },
  );

  it.runIf(canCheckpoint)(
    'what cannot be saved is named on the console, and the others are saved',
    async () => {
      const socket = `${user.home}/outside`;
      const server = createServer().listen(socket);
      await once(server, 'listening');
      await chmod(socket, 0o777);
      try {
        await start('good');
        await start('bad', [
          ...['python3', '-c'],
          `import socket, time; s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(socket)}); time.sleep(100000)`,
        ]);
        await isHeld([ours]);
        await sleep(500);
        await askFor('PowerOff');
        await soon(async () => expect(await systemd.said()).toContain('StartUnit poweroff.target'));
        expect(await states()).toEqual([
          ['good', 'suspended'],
          ['bad', 'running'],
        ]);
        expect(await machine.console()).toMatch(
          /^Torpor: bad of torpor-sd-1 was not saved before the shutdown: .*outside.*\r\n$/,
        );
      } finally {
        server.close();
      }
    },
  );

  it.runIf(canCheckpoint)(
    'what takes longer than the log-in manager waits is named, and saved before the engine ends',
    async () => {
      await machine.services.endLogind();
      await limit('500ms');
      await machine.services.startLogind();
      await start('app');
      await isHeld([ours]);
      await askFor('Reboot');
      await soon(async () => expect(await systemd.said()).toContain('StartUnit reboot.target'));
      expect(await machine.console()).toBe(
        'Torpor: app of torpor-sd-1 was not saved before the shutdown: There was not enough time for it.\r\n',
      );
      // As systemd does then.
      await machine.stop();
      await machine.start();
      expect(await states()).toEqual([['app', 'suspended']]);
    },
  );

  it('nobody but the log-in manager announces a shutdown', async () => {
    await start('app');
    await isHeld([ours]);
    const before = await machine.log();
    const [program = '', ...args] = machine.services.commandAs(user.uid);
    const engine = uniqueName(await machine.services.call(...ownerOf));
    for (const target of [[], ['--dest', engine]])
      await run(program, [
        ...[...args, 'gdbus', 'emit', '--system', ...target, '--object-path', '/org/freedesktop/login1'],
        ...['--signal', 'org.freedesktop.login1.Manager.PrepareForShutdown', 'true'],
      ]);
    await sleep(1000);
    expect((await machine.log()).slice(before.length)).not.toContain('saving');
    expect(await states()).toEqual([['app', 'running']]);
  });

  it.runIf(canCheckpoint)('a shutdown that does not take place has all run on', async () => {
    await systemd.order('fail');
    await start('app');
    await isHeld([ours]);
    await askFor('Reboot');
    await soon(async () => expect(await machine.log()).toContain('the shutdown was cancelled'));
    await become([['app', 'running']]);
    // And the next one is waited for again.
    await isHeld([ours]);
  });

  it.runIf(canCheckpoint)('an engine that systemd stops as the machine goes down saves first', async () => {
    await start('app');
    await systemd.order('state stopping');
    await sleep(200);
    await machine.stop();
    await machine.start();
    expect(await states()).toEqual([['app', 'suspended']]);
    expect(await sessions()).toMatchObject([{ reason: 'shutdown' }]);
  });

  it('what is chosen is understood, or nothing is changed', async () => {
    for (const wrong of [['--save-at', 'reboot,midnight'], ['--jobs', 'perhaps'], ['--machine'], ['evening']])
      expect(await machine.torpor(['session', 'policy', ...wrong], user.uid)).toMatchObject({ code: 2 });
    const forAll = ['session', 'policy', '--machine', '--jobs', 'yes'];
    expect(await machine.torpor(forAll, user.uid)).toMatchObject({ code: 5 });
    expect((await policy()).jobs).toBe(false);
    expect(await machine.torpor(forAll)).toMatchObject({ code: 0 });
    expect((await policy()).jobs).toBe(true);
    // What one chooses oneself comes before it, and is there for the next engine.
    await policy('--jobs', 'no');
    await machine.stop();
    await machine.start();
    expect((await policy()).jobs).toBe(false);
    expect(await machine.json(['session', 'policy'])).toMatchObject({ jobs: true });
  });

  it('an engine that is stopped otherwise leaves all as it is', async () => {
    await start('app');
    await machine.stop();
    await machine.start();
    expect(await states()).toEqual([['app', 'running']]);
    await isHeld([ours]);
  });
});

describe.runIf(canCheckpoint)('where it is known what happens', () => {
  it.each([
    ['reboot', 'reboot'],
    ['poweroff', 'power-off'],
    ['kexec', 'kexec'],
  ])('a shutdown of the kind %s is saved as %s, if the user wants that', async (kind, reason) => {
    await using login = await machine.standIn('login1');
    await machine.start();
    await start('app');
    await soon(async () => expect(await login.said()).toContain('inhibit shutdown delay'));
    const others = ['reboot', 'kexec', 'power-off'].filter((each) => each !== reason);
    await policy('--save-at', others.join());
    await login.order(`prepare ${kind}`);
    await soon(async () => expect(await login.said()).toContain('released'));
    expect(await states()).toEqual([['app', 'running']]);
    await login.order('cancel');
    await soon(async () => expect((await login.said()).match(/inhibit/g)).toHaveLength(2));
    await policy('--save-at', reason);
    await login.order(`prepare ${kind}`);
    await soon(async () => expect((await login.said()).match(/released/g)).toHaveLength(2));
    expect(await sessions()).toMatchObject([{ name: reason, reason }]);
  });

  it('a shutdown that comes right after a cancelled one is saved for, too', async () => {
    await using login = await machine.standIn('login1');
    await machine.start();
    await start('app');
    await soon(async () => expect(await login.said()).toContain('inhibit shutdown delay'));
    await login.order('prepare reboot');
    await soon(async () => expect(await login.said()).toContain('released'));
    // While all is being brought back from the first one.
    await login.order('cancel\nprepare poweroff');
    await soon(async () =>
      expect((await sessions())[0]).toMatchObject({ name: 'power-off', members: [{ state: 'ready' }] }),
    );
    expect(await states()).toEqual([['app', 'suspended']]);
    await login.order('cancel');
    await become([['app', 'running']]);
    await soon(async () => expect((await login.said()).match(/inhibit/g)?.length).toBeGreaterThan(1));
  });

  it('a battery that is nearly empty has those saved that want it', async () => {
    await using power = await machine.standIn('upower');
    await machine.start();
    await start('app');
    await power.order('level 4');
    await sleep(500);
    expect(await states()).toEqual([['app', 'running']]);
    await policy('--save-at', 'low-battery');
    await power.order('level 1');
    await power.order('level 4');
    await become([['app', 'suspended']]);
    expect(await sessions()).toMatchObject([{ name: 'low-battery', reason: 'low-battery' }]);
    // It is told once: what is resumed then runs.
    await machine.json(['resume', 'app'], user.uid);
    await power.order('level 5');
    await sleep(500);
    expect(await states()).toEqual([['app', 'running']]);
  });
});

/** The other machine of the tests is one: what it has, what it has not, and that nothing of it is left. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { isThere } from '../support/engine.ts';
import { OtherMachine } from '../support/other-machine.ts';

async function keyFolder(): Promise<string> {
  const folder = await mkdtemp('/var/tmp/torpor-key-');
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'note'), 'from home');
  return folder;
}

const scratchFolders = () => readdirSync('/var/tmp').filter((name) => name.startsWith('torpor-machine-'));

it('is of another release, with users and a disk of its own and the key, and without Torpor', async () => {
  await using machine = await OtherMachine.start(await keyFolder(), 'ro,noexec');
  const release = await machine.output(['cat', '/etc/os-release']);
  expect(release).not.toBe(readFileSync('/etc/os-release', 'utf8'));
  expect((await machine.output(['hostname'])).trim()).not.toBe(hostname());
  const who = await machine.output(['sh', '-c', 'id -u; pwd; echo $HOME'], { user: 'guest' });
  expect(who).toBe('1777\n/srv/people/guest\n/srv/people/guest\n');
  const programs = 'command -v torpor node Xvnc dbus-daemon python3 || echo none';
  expect(await machine.output(['sh', '-c', programs])).toBe('none\n');
  expect(await machine.output(['cat', '/media/key/note'])).toBe('from home');
  expect(await machine.run(['touch', '/media/key/new'])).toMatchObject({ code: 1 });
  expect(await machine.run(['cat'], { input: 'in' })).toMatchObject({ code: 0, stdout: 'in' });
  expect(await machine.output(['sh', '-c', 'cat /proc/self/cgroup'])).toContain('0::/system\n');
});

it('is gone with all its processes and mounts, and its tree is as it was', async () => {
  const before = scratchFolders();
  const machine = await OtherMachine.start(await keyFolder());
  await machine.output(['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 & echo changed >/etc/issue']);
  const pids = await machine.pids();
  expect(pids).toHaveLength(1);
  const changed = machine.pathOf('/etc/issue');
  expect(readFileSync(changed, 'utf8')).toBe('changed\n');
  await machine[Symbol.asyncDispose]();
  expect(pids.filter(isThere)).toEqual([]);
  expect(existsSync(changed)).toBe(false);
  expect(scratchFolders()).toEqual(before);
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain('torpor-machine-');

  await using again = await OtherMachine.start(await keyFolder());
  expect(await again.output(['cat', '/etc/issue'])).not.toContain('changed');
});

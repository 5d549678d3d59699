/** Torpor as its package installs it, with a system bus, systemd and somebody who has logged in. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Arrival, Session, Workload } from '../../api/types.ts';
import { kernelOf, type LogIn, noVirtualMachine, type VirtualMachine } from '../support/virtual-machine.ts';
import { isWhole, makeMachine, user } from './machine.ts';
import { type Counter, patient, Torpor } from './workloads.ts';

const limitMs = 240_000;

describe.skipIf(noVirtualMachine)(
  `a machine with systemd${noVirtualMachine ? ` (${noVirtualMachine})` : ''}`,
  () => {
    let machine: VirtualMachine;
    let ada: LogIn;

    beforeAll(async () => {
      machine = await makeMachine();
      await machine.boot({ kernel: '6.12', init: 'systemd' });
    }, 600_000);
    afterAll(async () => machine?.[Symbol.asyncDispose]());

    const unitState = async (unit: string) =>
      (await machine.run(`systemctl is-active ${unit}`)).stdout.trim();

    it('comes up whole, with the engine', async () => {
      expect((await machine.run('systemctl is-system-running --wait', { limitMs })).stdout).toBe('running\n');
      expect(await unitState('torpord')).toBe('active');
    });

    it('has the bus start the engine for who has logged in', async () => {
      await machine.say('systemctl stop torpord');
      ada = await machine.logIn(user.name);
      expect((await ada.run('id -un')).stdout).toBe(`${user.name}\n`);
      expect(await unitState(`user@${user.uid}`)).toBe('active');
      expect(await machine.say('loginctl --no-legend list-sessions')).toMatch(/\bada\b.*\bttyS2\b/);
      expect(await ada.run('torpor ps --json', { limitMs })).toMatchObject({ code: 0, stdout: '[]\n' });
      expect(await unitState('torpord')).toBe('active');
      // Whose engine it is.
      const pid = (await machine.say('systemctl show -P MainPID torpord')).trim();
      expect(await machine.say(`readlink /proc/${pid}/exe`)).toBe('/opt/Torpor/torpor-app\n');
    });

    it('has nothing that failed', async () => {
      const failed = 'systemctl --no-legend --failed';
      expect(await machine.say(failed)).toBe('');
      expect((await ada.run('systemctl --user --no-legend --failed')).stdout).toBe('');
    });

    it('suspends and resumes what its user started', { timeout: 900_000 }, async () => {
      const torpor = async <T>(words: string): Promise<T> => {
        const outcome = await ada.run(`torpor ${words}`, { limitMs });
        expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 0 });
        return JSON.parse(outcome.stdout) as T;
      };
      expect(await torpor('run --json --name window -- xterm')).toMatchObject({ state: 'running' });
      expect(await torpor('session save --json work window')).toMatchObject({ left: [] });
      expect(await torpor('session restore --json work')).toMatchObject({
        resumed: [{ name: 'window', state: 'running', user: user.name }],
      });
    });

    const boot = async () => (await machine.say('cat /proc/sys/kernel/random/boot_id')).trim();
    let torpor: Torpor;
    let counter: Counter;
    let window: string;

    it('keeps from a user what is another user’s', async () => {
      torpor = new Torpor(machine);
      window = (await torpor.json<Workload[]>('ps'))[0]?.id ?? '';
      await machine.say('useradd --create-home --shell /bin/sh bob');
      for (const words of ['suspend', 'resume', 'end']) {
        const outcome = await machine.run(`runuser -u bob -- torpor ${words} ${window}`, { limitMs });
        expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 5 });
      }
      expect((await torpor.json<Workload[]>('ps'))[0]).toMatchObject({ id: window, state: 'running' });
    });

    it('saves at a reboot what its user has running, and has it back at the next log-in', {
      timeout: 1_200_000,
    }, async () => {
      counter = await torpor.startCounter('counter');
      expect(await ada.run('torpor session policy --restore-at-login yes', { limitMs })).toMatchObject({
        code: 0,
      });
      const before = await boot();
      await machine.startAnew('systemctl reboot', { limitMs: 600_000 });
      expect(await boot()).not.toBe(before);
      const standing = await counter.numbers();
      const [saved] = await torpor.json<Session[]>('session ls');
      expect(saved?.reason).toMatch(/^(reboot|shutdown)$/);
      expect(saved?.members.map(({ name, state }) => `${name} ${state}`).sort()).toEqual([
        'counter ready',
        'window ready',
      ]);
      ada = await machine.logIn(user.name);
      await vi.waitFor(async () => {
        const all = await torpor.json<Workload[]>('ps');
        expect(all.map(({ state }) => state)).toEqual(['running', 'running']);
      }, patient);
      await counter.expectCountingOn(standing.length);
      await counter.expectNoGap();
    });

    it.runIf(isWhole)(
      'goes to another kernel in its order, and has everything back by itself',
      {
        timeout: 1_200_000,
      },
      async () => {
        const { version } = kernelOf('6.1');
        await machine.startAnew(`torpor kexec --kernel ${version}`, { limitMs: 600_000 });
        expect((await machine.say('uname -r')).trim()).toBe(version);
        const arrival = await torpor.json<Arrival>('kexec', '--status');
        expect(arrival).toMatchObject({ state: 'restored', left: [] });
        const standing = (await counter.numbers()).length;
        await counter.expectCountingOn(standing);
        await counter.expectNoGap();
      },
    );

    it('starts anew by itself, and ends in order', async () => {
      const before = await boot();
      await machine.startAnew('systemctl reboot', { limitMs: 600_000 });
      expect(await boot()).not.toBe(before);
      await machine.powerOff();
      expect(machine.isOn).toBe(false);
    });
  },
);

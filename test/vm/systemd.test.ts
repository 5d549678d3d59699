/** Torpor as its package installs it, with a system bus, systemd and somebody who has logged in. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LogIn, noVirtualMachine, type VirtualMachine } from '../support/virtual-machine.ts';
import { makeMachine, user } from './machine.ts';

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

    it('comes up whole, without the engine', async () => {
      expect((await machine.run('systemctl is-system-running --wait', { limitMs })).stdout).toBe('running\n');
      expect(await unitState('torpord')).toBe('inactive');
    });

    it('has the bus start the engine for who has logged in', async () => {
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

    it('starts anew by itself, and ends in order', async () => {
      const boot = async () => (await machine.say('cat /proc/sys/kernel/random/boot_id')).trim();
      const before = await boot();
      await machine.startAnew('systemctl reboot');
      expect(await boot()).not.toBe(before);
      await machine.powerOff();
      expect(machine.isOn).toBe(false);
    });
  },
);

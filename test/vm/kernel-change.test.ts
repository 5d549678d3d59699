/** A session that goes on under another kernel: by kexec, by kexec back, and by a plain power-off. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { comparePictures, decodePng, type Picture } from '../../api/rfb/picture.ts';
import { kernelOf, noVirtualMachine, type Series, type VirtualMachine } from '../support/virtual-machine.ts';
import { makeMachine, user } from './machine.ts';
import { type Counter, patient, type Restored, Torpor } from './workloads.ts';

const pictures = new URL('../../test-results/vm/', import.meta.url).pathname;

/** Boots a kernel from the one that runs, as root does it by hand. */
async function kexec(machine: VirtualMachine, kernel: Series): Promise<void> {
  const { version } = kernelOf(kernel);
  await machine.say(`kexec -l /boot/vmlinuz-${version} --append="$(cat /proc/cmdline)"`);
  await machine.startAnew('sync; kexec -e');
}

async function powerOff(machine: VirtualMachine, kernel: Series): Promise<void> {
  await machine.powerOff();
  await machine.boot({ kernel });
}

describe.skipIf(noVirtualMachine)(
  `a session under another kernel${noVirtualMachine ? ` (${noVirtualMachine})` : ''}`,
  () => {
    let machine: VirtualMachine;
    let torpor: Torpor;
    let counter: Counter;
    let job: { counter: Counter; pid: number };
    /** By what the job is named: its pid, until Torpor knows it. */
    let jobName: string;
    let typed = '';

    beforeAll(async () => {
      machine = await makeMachine();
      await machine.boot({ kernel: '6.1' });
      torpor = new Torpor(machine);
      counter = await torpor.startCounter('counter');
      // It shows what is typed, and changes by nothing else.
      await torpor.start('window', `xterm -e sh -c 'exec cat >${user.home}/typed'`);
      await untilReading();
      job = await torpor.startJob();
      jobName = String(job.pid);
    }, 600_000);
    afterAll(async () => machine?.[Symbol.asyncDispose]());

    /** The window's picture, which is kept for whoever wants to see it. */
    async function look(file: string): Promise<Picture> {
      const png = await torpor.screenshot('window');
      mkdirSync(pictures, { recursive: true });
      writeFileSync(`${pictures}${file}.png`, png);
      return decodePng(png);
    }

    /** Waits until the window has what is typed: what is typed before it has come up is lost. */
    async function untilReading(): Promise<void> {
      await vi.waitFor(async () => {
        await machine.say('torpor exec window -- xdotool key Return');
        typed = await machine.say(`cat ${user.home}/typed`);
        expect(typed).not.toBe('');
      }, patient);
    }

    /** Types a line into the window, and sees it there and in what the application made of it. */
    async function type(line: string): Promise<void> {
      const before = await torpor.picture('window');
      await machine.say(`torpor exec window -- xdotool type --delay 100 ${line}`);
      await machine.say('torpor exec window -- xdotool key Return');
      typed += `${line}\n`;
      await vi.waitFor(async () => expect(await machine.say(`cat ${user.home}/typed`)).toBe(typed), patient);
      expect(comparePictures(before, await torpor.picture('window')).equal).toBe(false);
    }

    it.each([
      ['6.12', 'by kexec', kexec],
      ['6.1', 'back by kexec', kexec],
      ['6.12', 'by a power-off', powerOff],
    ] as const)('goes on under %s %s', async (kernel, way, go) => {
      const from = (await machine.say('uname -r')).trim();
      const word = way.replaceAll(' ', '-');
      await type(`before-${word}`);
      const before = await look(`${word}-before`);
      await torpor.json('session save', `${word} counter window ${jobName}`);
      const left = { counter: await counter.numbers(), job: await job.counter.numbers() };

      await go(machine, kernel);

      expect((await machine.say('uname -r')).trim()).toBe(kernelOf(kernel).version);
      expect(kernelOf(kernel).version).not.toBe(from);
      expect(await counter.numbers()).toEqual(left.counter);
      expect(await job.counter.numbers()).toEqual(left.job);
      const restored = await torpor.json<Restored>('session restore', word);
      expect(restored.left).toEqual([]);
      expect(restored.resumed.map(({ state }) => state)).toEqual(['running', 'running', 'running']);
      expect(comparePictures(before, await look(`${word}-after`))).toMatchObject({ differentPixels: 0 });
      await type(`after-${word}`);
      await look(`${word}-typed`);
      for (const [each, standing] of [
        [counter, left.counter],
        [job.counter, left.job],
      ] as const) {
        await each.expectCountingOn(standing.length);
        await each.expectNoGap();
      }
      jobName = restored.resumed.find(({ kind }) => kind === 'job')?.id ?? '';
    });
  },
);

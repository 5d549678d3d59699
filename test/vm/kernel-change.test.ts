/** A session that goes on under another kernel: by `torpor kexec`, by that back, and by a plain power-off. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { comparePictures, decodePng, type Picture } from '../../api/rfb/picture.ts';
import type { Arrival, KexecPlan, Workload } from '../../api/types.ts';
import { kernelOf, noVirtualMachine, type Series, type VirtualMachine } from '../support/virtual-machine.ts';
import { isWhole, makeMachine, user } from './machine.ts';
import { type Counter, patient, type Restored, Torpor } from './workloads.ts';

const pictures = new URL('../../test-results/vm/', import.meta.url).pathname;

/** A way to another kernel. @returns what has the workloads come back there. */
type Way = (
  machine: VirtualMachine,
  torpor: Torpor,
  kernel: Series,
  targets: string,
) => Promise<() => Promise<void>>;

/** What was saved comes back by itself, as soon as somebody has the engine start. */
const kexec: Way = async (machine, torpor, kernel) => {
  const { version } = kernelOf(kernel);
  const plan = await torpor.json<KexecPlan>('kexec', `--dry-run --kernel ${version}`);
  expect(plan.findings.filter(({ verdict }) => verdict !== 'handled')).toEqual([]);
  expect(plan.kernels.map(({ canRestore }) => canRestore)).toEqual([true, true]);
  await machine.startAnew(`torpor kexec --kernel ${version}`, { limitMs: 300_000 });
  return async () => {
    const arrival = await torpor.json<Arrival>('kexec', '--status');
    expect(arrival).toMatchObject({ state: 'restored', to: version, running: version, left: [] });
    console.log(`${version}: usable ${arrival.firstMs} ms after its start, all after ${arrival.allMs} ms`);
  };
};

const powerOff: Way = async (machine, torpor, kernel, targets) => {
  await torpor.json('session save', `off ${targets}`);
  await machine.powerOff();
  await machine.boot({ kernel });
  return async () => expect((await torpor.json<Restored>('session restore', 'off')).left).toEqual([]);
};

describe.skipIf(noVirtualMachine)(
  `a session under another kernel${noVirtualMachine ? ` (${noVirtualMachine})` : ''}`,
  () => {
    let machine: VirtualMachine;
    let torpor: Torpor;
    let counter: Counter;
    let job: { counter: Counter; pid: number };
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
      // A first snapshot makes it a workload.
      await torpor.json('suspend', `--leave-running ${job.pid}`);
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

    const ways: [Series, string, Way][] = [
      ['6.12', 'by kexec', kexec],
      ['6.1', 'back by kexec', kexec],
      ...(isWhole ? [['6.12', 'by a power-off', powerOff] satisfies [Series, string, Way]] : []),
    ];
    it.each(ways)('goes on under %s %s', async (kernel, way, go) => {
      const from = (await machine.say('uname -r')).trim();
      const word = way.replaceAll(' ', '-');
      await type(`before-${word}`);
      const before = await look(`${word}-before`);
      const ids = (await torpor.json<Workload[]>('ps')).map(({ id }) => id);
      const counted = (await counter.numbers()).length;

      const comeBack = await go(machine, torpor, kernel, ids.join(' '));

      expect((await machine.say('uname -r')).trim()).toBe(kernelOf(kernel).version);
      expect(kernelOf(kernel).version).not.toBe(from);
      const left = { counter: await counter.numbers(), job: await job.counter.numbers() };
      expect(left.counter.length).toBeGreaterThanOrEqual(counted);
      await comeBack();
      const workloads = await torpor.json<Workload[]>('ps');
      expect(workloads.map(({ id, state }) => [id, state])).toEqual(ids.map((id) => [id, 'running']));
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
    });

    it.runIf(isWhole)(
      'goes back with everything from a kernel that does not restore',
      {
        timeout: 900_000,
      },
      async () => {
        const criu = (await machine.say("find /opt/Torpor -type f -path '*/criu/criu'")).trim();
        const from = (await machine.say('uname -r')).trim();
        const other = from === kernelOf('6.1').version ? kernelOf('6.12').version : kernelOf('6.1').version;
        await machine.startAnew(`torpor kexec --kernel ${other}`, { limitMs: 300_000 });
        // The engine is started by the first command.
        await machine.say(`chmod a-x ${criu}`);
        const arrival = await machine.run('torpor kexec --json --status', { limitMs: 300_000 });
        expect(arrival).toMatchObject({
          code: 1,
          stdout: expect.stringContaining(`torpor kexec --kernel ${from}`),
        });
        await machine.startAnew(`torpor kexec --kernel ${from}`, { limitMs: 300_000 });
        await machine.say(`chmod a+x ${criu}`);
        expect(await torpor.json<Arrival>('kexec', '--status')).toMatchObject({
          state: 'restored',
          running: from,
          left: [],
        });
        for (const each of [counter, job.counter]) {
          await each.expectCountingOn();
          await each.expectNoGap();
        }
      },
    );

    it('stays where it is, with all that runs, where the other kernel does not do', async () => {
      const { version } = kernelOf('6.12');
      await machine.say(
        `cp /boot/vmlinuz-${version} /boot/vmlinuz-6.0.0-less && mkdir -p /lib/modules/6.0.0-less &&
sed 's/^CONFIG_CHECKPOINT_RESTORE=y/# no/' /boot/config-${version} >/boot/config-6.0.0-less`,
      );
      const refusals: [string, number, string][] = [
        ['kexec --json --kernel 6.0.0-less', 3, 'CONFIG_CHECKPOINT_RESTORE'],
        ['kexec --json --kernel 5.0.0-none', 4, 'is not installed'],
      ];
      for (const [words, code, said] of refusals) {
        const outcome = await machine.run(`torpor ${words}`, { limitMs: 300_000 });
        expect(outcome, outcome.stdout).toMatchObject({ code, stdout: expect.stringContaining(said) });
      }
      const inMemory = `TORPOR_STATE_DIR=/dev/shm/state torpor kexec --json --kernel ${version}`;
      const outcome = await machine.run(inMemory, { limitMs: 300_000 });
      expect(outcome).toMatchObject({ code: 3, stdout: expect.stringContaining('in memory only') });
      await counter.expectCountingOn();
    });

    it('goes on as before where the jump itself fails', { timeout: 900_000 }, async () => {
      const { version } = kernelOf('6.1');
      await machine.say(
        `mv /sbin/kexec /sbin/kexec.real && printf '#!/bin/sh\ncase $1 in --exec) echo broken >&2; exit 1;; esac\nexec /sbin/kexec.real "$@"\n' >/sbin/kexec && chmod 755 /sbin/kexec`,
      );
      const outcome = await machine.run(`torpor kexec --json --kernel ${version}`, { limitMs: 600_000 });
      expect(outcome).toMatchObject({ code: 1, stdout: expect.stringContaining('broken') });
      await machine.say('mv /sbin/kexec.real /sbin/kexec');
      const states = (await torpor.json<Workload[]>('ps')).map(({ state }) => state);
      expect(states).toEqual(['running', 'running', 'running']);
      await counter.expectCountingOn();
      await job.counter.expectCountingOn();
      await counter.expectNoGap();
      // The next engine is not told of a jump that was none.
      await machine.say('test ! -e /var/lib/torpor/kexec.json');
    });
  },
);

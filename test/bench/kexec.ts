/**
 * How long it takes from `torpor kexec` until the first window can be used under the other kernel, and of what that is made;
 * beside the same jump of the same machine without Torpor. On a virtual machine with systemd, whose software emulation is
 * slow: only the shares and the ratio mean something elsewhere.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arrival } from '../../api/types.ts';
import { kernelOf, noVirtualMachine, type Series, type VirtualMachine } from '../support/virtual-machine.ts';
import { makeMachine, user } from '../vm/machine.ts';
import { markdownTable, mediansOf, ratio } from './figures.ts';

/** All in milliseconds. */
interface Round {
  checkMs: number;
  loadMs: number;
  saveMs: number;
  /** What runs is ended, and the other kernel begins. */
  downMs: number;
  /** From the beginning of the other kernel. */
  firstMs: number;
  allMs: number;
  /** Without Torpor: until the other kernel begins, and from then until the machine does what it is told. */
  bareDownMs: number;
  bareUpMs: number;
}

const limitMs = 600_000;

/** Has the machine go to another kernel. @returns milliseconds until that begins, and from then until the machine is ready. */
async function jump(machine: VirtualMachine, script: string): Promise<{ downMs: number; upMs: number }> {
  const begun = () => machine.console().split('Linux version').length;
  const before = begun();
  const startedAt = performance.now();
  const ready = machine.startAnew(script, { limitMs });
  let isReady = false;
  ready.finally(() => {
    isReady = true;
  });
  while (begun() === before && !isReady) await sleep(20);
  const begunAt = performance.now();
  await ready;
  return { downMs: begunAt - startedAt, upMs: performance.now() - begunAt };
}

async function oneRound(machine: VirtualMachine, to: Series, from: Series): Promise<Round> {
  const json = async <T>(words: string): Promise<T> =>
    JSON.parse(await machine.say(`torpor ${words}`, { limitMs })) as T;
  const { version } = kernelOf(to);
  for (const name of ['one', 'two'])
    await json(`run --json --user ${user.name} --name ${name} -- xterm -e sleep 100000`);
  const { downMs } = await jump(machine, `torpor kexec --kernel ${version}`);
  const { firstMs, allMs, state, took } = await json<Arrival>('kexec --json --status');
  if (state !== 'restored' || took === undefined || firstMs === undefined || allMs === undefined)
    throw new Error('what was saved did not come back');
  for (const name of ['one', 'two']) await json(`end --json ${name}`);

  const { version: back } = kernelOf(from);
  const bare = await jump(machine, `kexec --load /boot/vmlinuz-${back} --reuse-cmdline && systemctl kexec`);
  return {
    ...{ ...took, downMs: downMs - took.checkMs - took.loadMs - took.saveMs, firstMs, allMs },
    ...{ bareDownMs: bare.downMs, bareUpMs: bare.upMs },
  };
}

/** @returns nothing where there can be no virtual machine. */
export async function measureKexec(rounds: number): Promise<Round | undefined> {
  if (noVirtualMachine !== undefined) return undefined;
  await using machine = await makeMachine();
  await machine.boot({ kernel: '6.1', init: 'systemd' });
  const all: Round[] = [];
  for (let round = 1; round <= rounds; round++) {
    process.stderr.write(`bench: kexec, round ${round} of ${rounds} ...\n`);
    all.push(await oneRound(machine, '6.12', '6.1'));
  }
  return mediansOf(all);
}

export function kexecReport(figures: Round, rounds: number): string {
  const { checkMs, loadMs, saveMs, downMs, firstMs, allMs, bareDownMs, bareUpMs } = figures;
  const total = checkMs + loadMs + saveMs + downMs + firstMs;
  const seconds = (value: number) => `${(value / 1000).toFixed(1)} s`;
  const row = (what: string, value: number) => [what, seconds(value), ratio(value / total)];
  return [
    '## To another kernel',
    '',
    `From \`torpor kexec\` until the first window can be used; medians of ${rounds} rounds from Debian's 6.1 to 6.12 on a virtual machine with systemd and two terminals in capsules, measured by \`npm run bench -- --only kexec\`. Software emulation is some ten times slower than a CPU; only the shares and the ratio mean something.`,
    '',
    markdownTable(
      ['part', 'time', 'share'],
      [
        row('checks, and the canary', checkMs),
        row('the other kernel is loaded', loadMs),
        row('the session is saved', saveMs),
        row('services end, and the other kernel begins', downMs),
        row('it starts, and the first window is back', firstMs),
        row('**to the first window**', total),
        row('to the last', total - firstMs + allMs),
      ],
    ),
    '',
    `The same jump without Torpor and with nothing to save, until systemd has started everything: ${seconds(bareDownMs + bareUpMs)}. Ratio: ${ratio(total / (bareDownMs + bareUpMs))}.`,
  ].join('\n');
}

/** What runs on a virtual machine and shows by itself whether it went on, and what is asked of Torpor there. */
import { expect, vi } from 'vitest';
import { decodePng, type Picture } from '../../api/rfb/picture.ts';
import type { LeftOut, Session, Workload } from '../../api/types.ts';
import type { VirtualMachine } from '../support/virtual-machine.ts';
import { user } from './machine.ts';

/** Software emulation is ten times slower than the CPU itself, and more where that has something else to do. */
export const patient = { timeout: 120_000, interval: 1000 };
const limitMs = 300_000;

/** Writes 1, 2, 3... to the file that is its argument; each step is a process of its own. */
const counting = 'i=0; while :; do i=$((i+1)); echo "$i" >>"$1"; sleep 0.5; done';

/** What counts into a file: a lost, repeated or restarted step would show. */
export class Counter {
  readonly #machine: VirtualMachine;
  readonly file: string;

  constructor(machine: VirtualMachine, file: string) {
    this.#machine = machine;
    this.file = file;
  }

  async numbers(): Promise<number[]> {
    const { stdout } = await this.#machine.run(`cat ${this.file}`);
    return stdout.split('\n').filter(Boolean).map(Number);
  }

  /** Waits until it has counted on from there, or from where it is. */
  async expectCountingOn(from?: number): Promise<void> {
    const before = from ?? (await this.numbers()).length;
    await vi.waitFor(async () => expect((await this.numbers()).length).toBeGreaterThan(before), patient);
  }

  /** That it never skipped or repeated a number. */
  async expectNoGap(): Promise<void> {
    const numbers = await this.numbers();
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  }
}

/** What the restore of a session says. */
export type Restored = Session & { resumed: Workload[]; left: LeftOut[] };

export class Torpor {
  readonly #machine: VirtualMachine;

  constructor(machine: VirtualMachine) {
    this.#machine = machine;
  }

  /** Runs it with `--json` as root, in words that the shell takes, and expects success. */
  async json<T>(command: string, words = ''): Promise<T> {
    return JSON.parse(await this.#machine.say(`torpor ${command} --json ${words}`, { limitMs })) as T;
  }

  /** An application of the user's in a capsule. */
  async start(name: string, command: string): Promise<Workload> {
    return this.json<Workload>('run', `--user ${user.name} --name ${name} -- ${command}`);
  }

  /** A counter in a window of the user's. */
  async startCounter(name: string): Promise<Counter> {
    const counter = new Counter(this.#machine, `${user.home}/${name}`);
    await this.start(name, `xterm -e sh -c '${counting}' counting ${counter.file}`);
    await counter.expectCountingOn();
    return counter;
  }

  /** A counter as a job: root's, in a terminal, started by a shell. @returns its pid, too. */
  async startJob(): Promise<{ counter: Counter; pid: number }> {
    const counter = new Counter(this.#machine, '/root/job');
    await this.#machine.say(
      `cat >/root/job.sh <<'END'
echo $$ >/root/job.pid
set -- ${counter.file}
${counting}
END
setsid script -qc "bash -c 'sh /root/job.sh; exit'" /dev/null >/dev/null 2>&1 </dev/null &`,
    );
    await counter.expectCountingOn();
    return { counter, pid: Number(await this.#machine.say('cat /root/job.pid')) };
  }

  async picture(name: string): Promise<Picture> {
    return decodePng(await this.screenshot(name));
  }

  /** As a PNG file. */
  async screenshot(name: string): Promise<Buffer> {
    const file = '/tmp/screenshot.png';
    await this.json('screenshot', `${name} ${file}`);
    return this.#machine.read(file);
  }
}

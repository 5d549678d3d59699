/**
 * A virtual machine with a kernel, a CPU and a disk of its own, by qemu's software emulation, which needs nothing of the
 * host. It can be booted with one kernel or another, start anew by itself, be powered off or lose its power, and be booted
 * again from the same disk. Disposing of it is as if its plug were pulled, and nothing of it is left.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Outcome } from './engine.ts';
import { type RunOptions, SerialLine } from './serial-line.ts';

const build = new URL('../../build/', import.meta.url).pathname;
const fixtures = new URL('../fixtures/vm/', import.meta.url).pathname;
/** With systemd, and with the machine's two cores at something else. */
const bootLimitMs = 240_000;
const offLimitMs = 120_000;

/** Why there can be none here; undefined where there can. */
export const noVirtualMachine =
  arch() === 'x64' ? undefined : `its kernel is for amd64, and this is ${arch()}`;

/** The series of Debian's kernels that there are (scripts/setup/kernel.sh). */
export type Series = '6.1' | '6.12';
/** What is its first process: one that does what it is told and nothing else, or what its Debian has. */
export type Init = 'script' | 'systemd';

/**
 * Emulated on two threads, cmpxchg16b leaves flags of chance behind, of which the kernel's allocator dies sometimes: a
 * machine has either two processors without it, or one with all that x86-64-v2 is.
 */
const processors = {
  two: ['-smp', '2', '-cpu', 'max,-cx16'],
  baseline: ['-smp', '1', '-cpu', 'max'],
} as const;
type Processors = keyof typeof processors;

/** Where a kernel's parts are, and its version as it says it itself. */
export function kernelOf(series: Series): { folder: string; version: string; image: string } {
  const folder = join(build, 'kernels', series);
  const [version] = existsSync(folder) ? readdirSync(join(folder, 'lib/modules')) : [];
  if (version === undefined) throw new Error(`there is no kernel ${series}: run scripts/setup.sh --tests`);
  return { folder, version, image: join(folder, `boot/vmlinuz-${version}`) };
}

/**
 * Makes a disk of a copy of a tree, in which what the tests tell it to do is run by either init.
 * @param prepare does the rest in the copy, whose files are the tree's own: they are replaced, never written to.
 */
export async function makeDisk(
  disk: string,
  { tree, bytes }: { tree: string; bytes: number },
  prepare: (root: string) => void,
): Promise<void> {
  const root = `${disk}.root`;
  execFileSync('cp', ['-al', tree, root]);
  for (const [name, path] of [
    ['init.sh', 'sbin/machine-init'],
    ['runner.sh', 'sbin/machine-runner'],
  ] as const) {
    copyFileSync(join(fixtures, name), join(root, path));
    chmodSync(join(root, path), 0o755);
  }
  replaceFile(join(root, 'etc/hostname'), () => 'virtual\n');
  // One that has been booted before: nothing is set up for the first time.
  replaceFile(join(root, 'etc/machine-id'), () => `${'5a'.repeat(16)}\n`);
  prepare(root);
  writeFileSync(disk, '');
  truncateSync(disk, bytes);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', root, disk]);
  await rm(root, { recursive: true });
}

/** Replaces a file of a disk's root by another one. */
export function replaceFile(path: string, change: (text: string) => string): void {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  execFileSync('rm', ['-f', path]);
  writeFileSync(path, change(text));
}

/** What the machine has while it has power. */
interface Running {
  readonly qemu: ChildProcess;
  readonly ended: Promise<unknown>;
  /** That of root, and that at which somebody can log in. */
  readonly lines: readonly SerialLine[];
  readonly init: Init;
}

/** Somebody who has logged in. */
export interface LogIn extends AsyncDisposable {
  run(script: string, options?: RunOptions): Promise<Outcome>;
}

export class VirtualMachine implements AsyncDisposable {
  readonly #folder: string;
  readonly #keys: readonly string[];
  readonly #processors: Processors;
  #running: Running | undefined;

  private constructor(folder: string, keys: readonly string[], kind: Processors) {
    this.#folder = folder;
    this.#keys = keys;
    this.#processors = kind;
  }

  /**
   * One that is off.
   * @param makeItsDisk writes it to that file.
   * @param keys images of what is plugged in, the first of which is /dev/nvme1n1 there.
   */
  static async make(
    makeItsDisk: (disk: string) => Promise<void>,
    { keys = [], kind = 'two' }: { keys?: readonly string[]; kind?: Processors } = {},
  ): Promise<VirtualMachine> {
    const machine = new VirtualMachine(await mkdtemp('/var/tmp/torpor-virtual-'), keys, kind);
    try {
      await makeItsDisk(machine.#disk);
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  get #disk(): string {
    return join(this.#folder, 'disk');
  }

  get #power(): Running {
    if (this.#running === undefined) throw new Error('the virtual machine is off');
    return this.#running;
  }

  /** Whether it has power. */
  get isOn(): boolean {
    return this.#running !== undefined;
  }

  /** Gives it power, and waits until it does what it is told. */
  async boot({ kernel = '6.1', init = 'script' }: { kernel?: Series; init?: Init } = {}): Promise<void> {
    if (this.#running !== undefined) throw new Error('the virtual machine is on already');
    const drives = [this.#disk, ...this.#keys].flatMap((file, number) => [
      ...['-drive', `if=none,id=drive${number},format=raw,file=${file}`],
      ...['-device', `nvme,drive=drive${number},serial=drive${number}`],
    ]);
    const sockets = [1, 2].map((number) => join(this.#folder, `serial${number}`));
    const words = [
      // Whatever ends this process ends the machine.
      ...['setpriv', '--pdeathsig', 'KILL', 'qemu-system-x86_64'],
      ...['-accel', 'tcg,thread=multi', ...processors[this.#processors], '-m', '2048'],
      ...['-display', 'none', '-monitor', 'none', '-nic', 'none', '-nodefaults'],
      ...['-chardev', `file,id=console,append=on,path=${join(this.#folder, 'console')}`],
      ...['-serial', 'chardev:console'],
      ...sockets.flatMap((path) => ['-serial', `unix:${path},server=on,wait=off`]),
      ...['-kernel', kernelOf(kernel).image],
      ...[
        '-append',
        `root=/dev/nvme0n1 rw console=ttyS0 panic=-1${init === 'script' ? ' init=/sbin/machine-init' : ''}`,
      ],
      ...drives,
    ];
    const [first = '', ...rest] = words;
    for (const path of sockets) await rm(path, { force: true });
    const qemu = spawn(first, rest, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' });
    let complaints = '';
    qemu.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints += text;
    });
    const ended = once(qemu, 'close');
    const lines: SerialLine[] = [];
    this.#running = { qemu, ended, lines, init };
    const limit = Date.now() + bootLimitMs;
    try {
      while (!sockets.every((path) => existsSync(path))) {
        if (qemu.exitCode !== null) throw new Error(`qemu has ended: ${complaints}`);
        if (Date.now() > limit) throw new Error('qemu makes no serial lines');
        await sleep(20);
      }
      for (const path of sockets)
        lines.push(
          await SerialLine.open(path, () => `the virtual machine has ended:\n${this.console().slice(-2000)}`),
        );
      await this.#line.untilReady(limit - Date.now());
    } catch (error) {
      const console = this.console();
      await this.pullPlug();
      throw new Error(`the virtual machine does not boot:\n${console.slice(-3000)}`, { cause: error });
    }
  }

  /** What its kernels have said since it was made. */
  console(): string {
    const path = join(this.#folder, 'console');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  get #line(): SerialLine {
    return this.#lineOf(0);
  }

  #lineOf(number: number): SerialLine {
    const line = this.#power.lines[number];
    if (line === undefined) throw new Error('the virtual machine is not ready');
    return line;
  }

  /** Runs a script of sh there as root, to its end; one at a time. */
  run(script: string, options?: RunOptions): Promise<Outcome> {
    return this.#line.run(script, options);
  }

  /** Runs a script and expects success. @returns what it wrote. */
  async say(script: string, options?: RunOptions): Promise<string> {
    const { code, stdout, stderr } = await this.run(script, options);
    if (code !== 0) throw new Error(`${script}: exit ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  /** A file that is there. */
  async read(path: string): Promise<Buffer> {
    return Buffer.from(await this.say(`base64 -w0 '${path}'`), 'base64');
  }

  /** Runs a script that has it start anew, as `kexec -e` and `systemctl reboot` do, and waits until it is ready again. */
  async startAnew(script: string, { limitMs = bootLimitMs }: RunOptions = {}): Promise<void> {
    await this.#line.runUntilReady(script, limitMs);
  }

  /** Logs somebody in at a terminal of the machine, as a person would: only systemd has sessions. */
  async logIn(user: string): Promise<LogIn> {
    const unit = 'serial-getty@ttyS2.service';
    const folder = `/run/systemd/system/${unit}.d`;
    await this.say(
      `mkdir -p ${folder}
printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty --autologin ${user} - linux\\n' >${folder}/user.conf
systemctl daemon-reload && systemctl start ${unit}`,
    );
    const line = this.#lineOf(1);
    await line.untilReady(bootLimitMs);
    return {
      run: (script, options) => line.run(script, options),
      [Symbol.asyncDispose]: async () => {
        if (this.isOn) await this.say(`systemctl stop ${unit}`);
      },
    };
  }

  /** Has it shut down in order, and waits until it has no power any more. */
  async powerOff(): Promise<void> {
    const { ended, init } = this.#power;
    const off = init === 'systemd' ? 'systemctl poweroff' : 'sync; poweroff -f';
    // No answer comes where it is quick.
    this.run(off).catch(() => {});
    const limit = new AbortController();
    const isOff = await Promise.race([
      ended.then(() => true),
      sleep(offLimitMs, false, { signal: limit.signal }),
    ]);
    limit.abort();
    if (!isOff) throw new Error(`the virtual machine does not end:\n${this.console().slice(-2000)}`);
    this.#forget();
  }

  /** Takes its power away: what it has not written to its disk is lost. */
  async pullPlug(): Promise<void> {
    if (this.#running === undefined) return;
    this.#running.qemu.kill('SIGKILL');
    await this.#running.ended;
    this.#forget();
  }

  #forget(): void {
    for (const line of this.#running?.lines ?? []) line[Symbol.dispose]();
    this.#running = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pullPlug();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

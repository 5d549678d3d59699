/**
 * A virtual machine with a kernel, a CPU and a Debian of its own that has nothing of Torpor, and with a key plugged in; by
 * qemu's software emulation, which needs nothing of the host. Disposing of it is as if its plug were pulled.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Outcome } from './engine.ts';

const build = new URL('../../build/', import.meta.url).pathname;
const program = new URL('../fixtures/virtual-machine.sh', import.meta.url).pathname;
const diskBytes = 1024 ** 3;

/** Why there can be none here; undefined where there can. */
export const noVirtualMachine =
  arch() === 'x64' ? undefined : `its kernel is for amd64, and this is ${arch()}`;

/** Its disk: the tree of the other machine, with a kernel's modules and what loads them. */
async function makeDisk(folder: string): Promise<string> {
  const [release] = readdirSync(join(build, 'machines'));
  if (release === undefined) throw new Error('there is no other machine: run scripts/setup.sh --tests');
  const root = join(folder, 'root');
  execFileSync('cp', ['-a', join(build, 'machines', release), root]);
  execFileSync('cp', ['-a', join(build, 'kernel/lib/modules'), join(root, 'lib')]);
  copyFileSync('/bin/busybox', join(root, 'sbin/busybox'));
  for (const name of ['modprobe', 'ip', 'poweroff'])
    execFileSync('ln', ['-sf', 'busybox', join(root, 'sbin', name)]);
  copyFileSync(program, join(root, 'sbin/machine'));
  chmodSync(join(root, 'sbin/machine'), 0o755);
  mkdirSync(join(root, 'media/key'), { recursive: true });
  writeFileSync(join(root, 'etc/hostname'), 'virtual\n');
  writeFileSync(join(root, 'etc/machine-id'), `${'5a'.repeat(16)}\n`);
  const passwd = readFileSync(join(root, 'etc/passwd'), 'utf8');
  writeFileSync(join(root, 'etc/passwd'), `${passwd}guest:x:1777:1777::/home/guest:/bin/bash\n`);
  writeFileSync(join(root, 'etc/group'), `${readFileSync(join(root, 'etc/group'), 'utf8')}guest:x:1777:\n`);
  execFileSync('install', ['-d', '-m', '700', '-o', '1777', '-g', '1777', join(root, 'home/guest')]);
  const disk = join(folder, 'disk');
  writeFileSync(disk, '');
  truncateSync(disk, diskBytes);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', root, disk]);
  await rm(root, { recursive: true });
  return disk;
}

export class VirtualMachine implements AsyncDisposable {
  readonly #folder: string;
  readonly #qemu: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #answers: AsyncIterator<string>;

  private constructor(folder: string, qemu: ChildProcess) {
    this.#folder = folder;
    this.#qemu = qemu;
    this.#ended = once(qemu, 'close');
    if (qemu.stdout === null) throw new Error('qemu has no standard output');
    this.#answers = createInterface({ input: qemu.stdout })[Symbol.asyncIterator]();
  }

  /** @param key image of the key that is plugged in, which is /dev/nvme1n1 there. */
  static async boot(key: string): Promise<VirtualMachine> {
    const folder = await mkdtemp('/var/tmp/torpor-virtual-');
    const disk = await makeDisk(folder);
    const drives = [disk, key].flatMap((file, number) => [
      ...['-drive', `if=none,id=drive${number},format=raw,file=${file}`],
      ...['-device', `nvme,drive=drive${number},serial=drive${number}`],
    ]);
    const words = [
      // Whatever ends this process ends the machine.
      ...['setpriv', '--pdeathsig', 'KILL', 'qemu-system-x86_64'],
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', '2048'],
      ...['-display', 'none', '-monitor', 'none', '-nic', 'none', '-no-reboot', '-nodefaults'],
      ...['-serial', `file:${join(folder, 'console')}`, '-serial', 'stdio'],
      ...['-kernel', join(build, 'kernel/vmlinuz')],
      ...['-append', 'root=/dev/nvme0n1 rw console=ttyS0 init=/sbin/machine panic=-1'],
      ...drives,
    ];
    const [first = '', ...rest] = words;
    const qemu = spawn(first, rest, { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/' });
    const machine = new VirtualMachine(folder, qemu);
    try {
      if ((await machine.#answer()) !== 'ready')
        throw new Error('it has said something else than that it is ready');
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What its kernel has said. */
  console(): string {
    return readFileSync(join(this.#folder, 'console'), 'utf8');
  }

  async #answer(): Promise<string> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`the virtual machine has ended:\n${this.console().slice(-2000)}`);
    return String(value).trim();
  }

  /** Runs a script of sh there as root, to its end; one at a time. */
  async run(script: string): Promise<Outcome> {
    this.#qemu.stdin?.write(`${Buffer.from(script).toString('base64')}\n`);
    const [code, ...outputs] = (await this.#answer()).split(' ');
    // An end that is no part of it keeps an empty output from being no word.
    const [stdout = '', stderr = ''] = outputs.map((each) =>
      Buffer.from(each.slice(0, -1), 'base64').toString(),
    );
    return { code: Number(code), stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#qemu.kill('SIGKILL');
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }
}

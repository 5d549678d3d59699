/** A virtual machine with a Debian of another release (scripts/setup/machine.sh) that has nothing of Torpor, and a key. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { kernelOf, makeDisk, replaceFile, VirtualMachine } from './virtual-machine.ts';

const trees = new URL('../../build/machines', import.meta.url).pathname;
const diskBytes = 1024 ** 3;

function prepare(root: string): void {
  const { folder, version } = kernelOf('6.1');
  execFileSync('cp', ['-a', join(folder, 'lib/modules'), join(root, 'lib')]);
  copyFileSync('/bin/busybox', join(root, 'sbin/busybox'));
  // What loads modules is no part of such a tree.
  for (const name of ['modprobe', 'depmod', 'ip', 'poweroff'])
    execFileSync('ln', ['-sf', 'busybox', join(root, 'sbin', name)]);
  execFileSync('chroot', [root, 'depmod', version]);
  mkdirSync(join(root, 'media/key'), { recursive: true });
  replaceFile(join(root, 'etc/passwd'), (text) => `${text}guest:x:1777:1777::/home/guest:/bin/bash\n`);
  replaceFile(join(root, 'etc/group'), (text) => `${text}guest:x:1777:\n`);
  execFileSync('install', ['-d', '-m', '700', '-o', '1777', '-g', '1777', join(root, 'home/guest')]);
}

/**
 * One that is off.
 * @param key image of the key that is plugged in, which is /dev/nvme1n1 there.
 */
export function makeBareMachine(key: string): Promise<VirtualMachine> {
  const [release] = readdirSync(trees);
  if (release === undefined) throw new Error('there is no other machine: run scripts/setup.sh --tests');
  const tree = join(trees, release);
  return VirtualMachine.make((disk) => makeDisk(disk, { tree, bytes: diskBytes }, prepare), {
    keys: [key],
    kind: 'baseline',
  });
}

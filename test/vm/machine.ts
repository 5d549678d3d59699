/**
 * A virtual machine on which Torpor is installed as its package does it: a Debian 12 with systemd and two kernels
 * (scripts/setup/vm.sh), a user who can log in, and Node's own program in Electron's place.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import afterPack from '../../packaging/app/after-pack.mjs';
import { InstalledPackage, installedFiles, readPackageConfig } from '../support/app-package.ts';
import { makeDisk, replaceFile, VirtualMachine } from '../support/virtual-machine.ts';

const checkout = new URL('../../', import.meta.url).pathname;
const tree = join(checkout, 'build/vm/root');
const fixtures = join(checkout, 'test/fixtures/vm');
const diskBytes = 3 * 1024 ** 3;

/** All of the tests (`npm run test:vm`), and not only what `npm test` has time for. */
export const isWhole = process.env.TORPOR_TEST_VM === 'whole';

/** Who lives there. */
export const user = { name: 'ada', uid: 1000, home: '/home/ada' } as const;

/** What the packager and the package's own script do, in the root of a disk. */
function install(root: string): void {
  const config = readPackageConfig();
  {
    using installed = new InstalledPackage(config, process.execPath);
    mkdirSync(join(root, 'opt'), { recursive: true });
    execFileSync('cp', ['-a', installed.folder, join(root, 'opt/Torpor')]);
  }
  afterPack({ appOutDir: join(root, 'opt/Torpor') });
  // Chromium's, which the script gives its rights.
  writeFileSync(join(root, 'opt/Torpor/chrome-sandbox'), '');
  for (const { from, to } of installedFiles(config.deb)) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(join(checkout, from), join(root, to));
  }
  copyFileSync(join(checkout, config.deb.afterInstall), join(root, 'after-install'));
  execFileSync('chroot', [root, 'sh', '/after-install', 'configure'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  execFileSync('rm', [join(root, 'after-install')]);
}

/** Somebody whose log-in at a serial line does what the tests say. */
function addUser(root: string): void {
  const { name, uid, home } = user;
  replaceFile(join(root, 'etc/passwd'), (text) => `${text}${name}:x:${uid}:${uid}::${home}:/bin/bash\n`);
  replaceFile(join(root, 'etc/shadow'), (text) => `${text}${name}:*:19000:0:99999:7:::\n`);
  replaceFile(join(root, 'etc/group'), (text) => `${text}${name}:x:${uid}:\n`);
  execFileSync('install', ['-d', '-m', '700', '-o', `${uid}`, '-g', `${uid}`, join(root, home)]);
  writeFileSync(
    join(root, home, '.bash_profile'),
    'if [ "$(tty)" = /dev/ttyS2 ]; then exec /sbin/machine-runner /dev/ttyS2; fi\n',
  );
}

function prepare(root: string): void {
  install(root);
  addUser(root);
  const unit = 'machine-runner.service';
  copyFileSync(join(fixtures, unit), join(root, 'etc/systemd/system', unit));
  execFileSync('chroot', [root, 'systemctl', '-q', 'enable', unit]);
  // Nothing is brought up to date at its first boot.
  for (const folder of ['etc', 'var']) execFileSync('touch', [join(root, folder, '.updated')]);
}

/** One that is off. */
export function makeMachine(): Promise<VirtualMachine> {
  if (!existsSync(tree)) throw new Error('there is no tree for it: run scripts/setup.sh --tests');
  return VirtualMachine.make((disk) => makeDisk(disk, { tree, bytes: diskBytes }, prepare));
}

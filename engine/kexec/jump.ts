/** Loading another kernel beside the one that runs, and starting it: by kexec-tools, as kexec(8) has it. */
import { access, readFile } from 'node:fs/promises';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { lastSentence, runCommand } from '../command.ts';
import type { Kernel } from './kernels.ts';
import { finding } from './requirements.ts';

const loadLimitMs = 120_000;
const jumpLimitMs = 60_000;

/** What the machine says of kexec as such. */
export interface KexecSurroundings {
  /** /sys/kernel/security/lockdown, where the kernel has that. */
  lockdown: string | undefined;
  /** /proc/sys/kernel/kexec_load_disabled; undefined where the kernel has no kexec. */
  isDisabled: string | undefined;
  hasTool: boolean;
  mayReboot: boolean;
}

const capSysBoot = 22n;
const readWord = (path: string) =>
  readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );

export async function lookAtSurroundings(): Promise<KexecSurroundings> {
  const [lockdown, isDisabled, status, hasTool] = await Promise.all([
    readWord('/sys/kernel/security/lockdown'),
    readWord('/proc/sys/kernel/kexec_load_disabled'),
    readFile('/proc/self/status', 'utf8'),
    runCommand('kexec', ['--version']).then(
      () => true,
      () => false,
    ),
  ]);
  const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return { lockdown, isDisabled, hasTool, mayReboot: ((capabilities >> capSysBoot) & 1n) === 1n };
}

/** Whether the running kernel only takes what is signed (kernel_lockdown(7)). Pure. */
export const isLockedDown = ({ lockdown }: Pick<KexecSurroundings, 'lockdown'>) =>
  /\[(integrity|confidentiality)\]/.test(lockdown ?? '');

/** What keeps this machine from a jump, whatever the kernel. Pure. */
export function findingsAboutKexec(surroundings: KexecSurroundings): Finding[] {
  const { isDisabled, hasTool, mayReboot } = surroundings;
  const found: Finding[] = [];
  const say = (verdict: Finding['verdict'], what: string, hint: string) =>
    found.push(finding(verdict, what, hint, 'kexec'));
  if (isDisabled === undefined)
    say('blocking', 'The running kernel has no kexec (CONFIG_KEXEC).', rebootInstead);
  else if (isDisabled !== '0')
    say(
      'blocking',
      'kexec is switched off until the next reboot (kernel.kexec_load_disabled).',
      rebootInstead,
    );
  if (!hasTool) say('blocking', 'The program kexec is not installed.', 'apt-get install kexec-tools');
  if (!mayReboot)
    say('blocking', 'The engine may not start another kernel (it lacks CAP_SYS_BOOT).', rebootInstead);
  if (isLockedDown(surroundings))
    say(
      'degraded',
      'The machine takes only signed kernels (Secure Boot lockdown).',
      'The distribution’s own are signed. One that is not is refused before anything is saved.',
    );
  return found;
}

const rebootInstead =
  'Save the session (`torpor session save NAME`), reboot in the ordinary way, and restore it.';

/**
 * The command line of the running kernel without what names its own files: the boot loader wrote those. Pure.
 * @param text /proc/cmdline
 */
export function commandLineFor(text: string): string {
  return text
    .trim()
    .split(/\s+/)
    .filter((word) => !/^(BOOT_IMAGE|initrd)=/.test(word))
    .join(' ');
}

/** Loads it; the one that runs goes on. @throws TorporError `blocked`, saying why the running kernel does not take it. */
export async function load(
  { version, image, initrd }: Kernel,
  commandLine: string,
  surroundings: KexecSurroundings,
): Promise<void> {
  // By file the running kernel sees the signature; the older call is only for kernels without that one.
  const how = isLockedDown(surroundings) ? '--kexec-file-syscall' : '--kexec-syscall-auto';
  const { status, stderr } = await runCommand(
    'kexec',
    [
      ...['--load', how, image, `--command-line=${commandLine}`],
      ...(initrd === undefined ? [] : [`--initrd=${initrd}`]),
    ],
    { timeoutMs: loadLimitMs },
  );
  if (status === 0) return;
  throw new TorporError(
    'blocked',
    `The running kernel does not take the kernel ${version}: ${lastSentence(stderr) || `kexec ended with status ${status}`}. Nothing was touched.`,
    isLockedDown(surroundings)
      ? 'It is not signed by a key that this machine trusts. Install the distribution’s signed kernel, or reboot in the ordinary way after `torpor session save NAME`.'
      : rebootInstead,
  );
}

/** Gives up a kernel that was loaded. */
export async function unload(): Promise<void> {
  await runCommand('kexec', ['--unload']).catch(() => {});
}

const isSystemd = () =>
  access('/run/systemd/system').then(
    () => true,
    () => false,
  );

/**
 * Starts the kernel that is loaded. With systemd everything is shut down in its order first, and this returns before
 * that; otherwise the machine jumps at once.
 * @throws TorporError `failed` where it did not.
 */
export async function jump(): Promise<void> {
  const [program, ...args] = (await isSystemd()) ? ['systemctl', 'kexec'] : ['kexec', '--exec'];
  await runCommand('sync', []);
  const { status, stderr } = await runCommand(program ?? '', args, { timeoutMs: jumpLimitMs });
  if (status === 0) return;
  throw new TorporError(
    'failed',
    `The other kernel could not be started: ${lastSentence(stderr) || `${program} ended with status ${status}`}.`,
    rebootInstead,
  );
}

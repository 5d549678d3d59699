/**
 * `torpor doctor`: what this machine has and lacks, each with why it matters and the command that mends it. Every
 * check looks at the thing itself and never guesses from a version where it can try.
 */
import { constants } from 'node:fs';
import { access, readdir, readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { sentenceOf } from '../../api/errors.ts';
import type { EnginePaths } from '../../api/paths.ts';
import type { DoctorCheck } from '../../api/types.ts';
import type { User } from '../capsule/users.ts';
import { identityOptions, runCommand } from '../command.ts';
import type { CriuClient } from '../criu/client.ts';
import type { Installation } from '../installation.ts';
import { mountOf, readMounts } from '../mounts.ts';
import type { UserSessions } from '../plugin-host/user-sessions.ts';
import { sentencesOf } from '../profiles/folders.ts';
import type { Profiles } from '../profiles/profiles.ts';
import { soundServers } from './sound-servers.ts';

export interface DoctorParts {
  paths: EnginePaths;
  installation: Installation;
  criu: CriuClient;
  profiles: Profiles;
  userSessions: UserSessions;
}

type Check = (parts: DoctorParts, user: User) => Promise<DoctorCheck>;

const gib = 1024 ** 3;

const ok = (name: string, found: string): DoctorCheck => ({ name, status: 'ok', found, why: '', fix: '' });

async function capabilities(): Promise<bigint> {
  const status = await readFile('/proc/self/status', 'utf8');
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
}

/** Numbers from capabilities(7). */
const needed = { CAP_SYS_ADMIN: 21n, CAP_SYS_PTRACE: 19n, CAP_NET_ADMIN: 12n, CAP_CHECKPOINT_RESTORE: 40n };
const helpful = { CAP_SYS_RESOURCE: 24n };

const checkCapabilities: Check = async () => {
  const held = await capabilities();
  const lacks = (set: Record<string, bigint>) =>
    Object.entries(set)
      .filter(([, bit]) => (held & (1n << bit)) === 0n)
      .map(([name]) => name);
  const missing = lacks(needed);
  if (missing.length > 0) {
    return {
      name: 'capabilities',
      status: 'missing',
      found: `the engine lacks ${missing.join(', ')}`,
      why: 'Without them processes can be neither frozen nor restored.',
      fix: 'Run the engine as root outside of a restricted container.',
    };
  }
  const weaker = lacks(helpful);
  if (weaker.length === 0) return ok('capabilities', 'all that are needed');
  return {
    name: 'capabilities',
    status: 'warning',
    found: `the engine lacks ${weaker.join(', ')}`,
    why: "Torpor reads other users' limits another way, so suspending works; limits above root's own cannot be restored.",
    fix: '',
  };
};

const noCriu = (found: string): DoctorCheck => ({
  name: 'criu',
  status: 'missing',
  found,
  why: 'CRIU does the checkpoint and the restore; without it nothing can be suspended or resumed.',
  fix: 'bash scripts/setup.sh',
});

const checkCriu: Check = async ({ criu, installation }) => {
  try {
    const version = await criu.version();
    const check = await criu.check();
    if (check.ok) return ok('criu', `${version.text} at ${installation.criu}`);
    return noCriu(`${version.text} finds this kernel lacking: ${check.errors.join('; ')}`);
  } catch (error) {
    return noCriu(sentenceOf(error));
  }
};

const checkKernel: Check = async () => {
  const wanted: [string, string][] = [
    ['/proc/self/ns/pid', 'pid namespaces'],
    ['/proc/self/ns/ipc', 'ipc namespaces'],
    ['/proc/self/ns/time', 'time namespaces (clocks go on without a jump after a reboot)'],
    ['/proc/self/timers', 'checkpoint/restore (CONFIG_CHECKPOINT_RESTORE)'],
    ['/proc/self/map_files', 'checkpoint/restore (map_files)'],
  ];
  const missing: string[] = [];
  for (const [path, what] of wanted) {
    await access(path, constants.R_OK).catch(() => missing.push(what));
  }
  const release = (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim();
  if (missing.length === 0) return ok('kernel', release);
  return {
    name: 'kernel',
    status: 'missing',
    found: `${release} has no ${missing.join(', no ')}`,
    why: 'CRIU needs these to take a process apart and put it together again.',
    fix: 'apt-get install linux-image-amd64',
  };
};

const checkCgroups: Check = async () => {
  const mounts = await readMounts();
  const v2 = mounts.find((mount) => mount.type === 'cgroup2');
  if (v2 !== undefined) return ok('freezer', `cgroup v2 at ${v2.path}`);
  const v1 = mounts.find((mount) => mount.type === 'cgroup' && mount.superOptions.includes('freezer'));
  if (v1 !== undefined) return ok('freezer', `cgroup v1 at ${v1.path}`);
  return {
    name: 'freezer',
    status: 'missing',
    found: 'no cgroup file system is mounted',
    why: 'All processes of an application must be stopped at one instant.',
    fix: 'mount -t cgroup2 none /sys/fs/cgroup',
  };
};

function programCheck(name: string, program: string, arguments_: string[], why: string, fix: string): Check {
  return async () => {
    try {
      const { stdout, stderr } = await runCommand(program, arguments_, { timeoutMs: 10_000 });
      const line = `${stdout}\n${stderr}`.split('\n').find((text) => /\d+\.\d+/.test(text));
      return ok(name, line?.trim() ?? `${program} is there`);
    } catch {
      return { name, status: 'missing', found: `${program} is not installed`, why, fix };
    }
  };
}

const checkXServer = programCheck(
  'x-server',
  'Xvnc',
  ['-version'],
  'Every application in a capsule has an X server of its own.',
  'apt-get install tigervnc-standalone-server',
);
const checkWindowManager = programCheck(
  'window-manager',
  'openbox',
  ['--version'],
  'It gives the application the whole screen and places its dialogs.',
  'apt-get install openbox',
);
const checkBus = programCheck(
  'session-bus',
  'dbus-daemon',
  ['--version'],
  'Applications expect a session bus, and the engine needs a bus to answer on.',
  'apt-get install dbus',
);
const checkTar = programCheck(
  'tar',
  'tar',
  ['--version'],
  "CRIU keeps the contents of a capsule's /tmp and /run with it.",
  'apt-get install tar',
);

/** The program ends with 2 where it is there with its library, because it is called without arguments. */
const checkSound: Check = async ({ installation, userSessions }, user) => {
  const lacking = {
    name: 'sound',
    status: 'warning',
    why: 'Applications in capsules run without being heard.',
  } as const;
  const relay = await runCommand(installation.soundRelay, [], { timeoutMs: 10_000 }).catch(() => undefined);
  if (relay?.status !== 2) {
    const found = `the relay of sound does not start: ${relay?.stderr.trim() || 'it is not there'}`;
    return { ...lacking, found, fix: 'apt-get install libpulse0 && bash scripts/setup.sh' };
  }
  const environment = await userSessions.environmentOf(user);
  const servers = soundServers(environment);
  for (const server of servers) {
    if (server.kind === 'network')
      return ok('sound', `a sound server is to be at ${server.address}, which is not tried here`);
    if (await hasSocket(user, server.path)) return ok('sound', `a sound server at ${server.path}`);
  }
  const places = servers.map((server) => (server.kind === 'socket' ? server.path : server.address));
  const found = `no PulseAudio, and no PipeWire in its place, for ${user.name} at ${places.join(' or ')}`;
  const fix = environment.PULSE_SERVER
    ? 'PULSE_SERVER says so: start one there, or set it to where one is.'
    : `Start one in the session of ${user.name}, or set PULSE_SERVER to where one is; \`torpor doctor\` looks where it is called from.`;
  return { ...lacking, found, fix };
};

/** Whether there is a socket that the user can connect to. With their rights, since the path is theirs to choose. */
async function hasSocket(user: User, path: string): Promise<boolean> {
  const test = ['sh', '-c', 'test -S "$1" && test -w "$1"', 'sh', path];
  const { status } = await runCommand('setpriv', [...identityOptions(user), '--', ...test], {
    env: { PATH: '/usr/bin:/bin' },
    timeoutMs: 5000,
    killSignal: 'SIGKILL',
    ownSession: true,
  });
  return status === 0;
}

const checkDisk: Check = async ({ paths }) => {
  const { bavail, bsize } = await statfs(paths.stateDir);
  const free = bavail * bsize;
  const found = `${(free / gib).toFixed(1)} GiB free at ${paths.stateDir}`;
  if (free > 2 * gib) return ok('disk', found);
  return {
    name: 'disk',
    status: 'warning',
    found,
    why: 'A snapshot needs about as much disk as the application holds memory.',
    fix: 'torpor snapshots    # then torpor rm those no longer needed',
  };
};

const checkState: Check = async ({ paths }) => {
  const holder = mountOf(await readMounts(), paths.stateDir);
  if (holder?.type !== 'tmpfs') return ok('state-folder', `${paths.stateDir} on ${holder?.type ?? 'a disk'}`);
  return {
    name: 'state-folder',
    status: 'warning',
    found: `${paths.stateDir} is on tmpfs`,
    why: 'What is suspended there is lost at a reboot, and takes memory instead of freeing it.',
    fix: 'Set TORPOR_STATE_DIR to a folder on a disk.',
  };
};

const dpkgFolder = '/etc/dpkg/dpkg.cfg.d';

/** The programs that dpkg starts, by files of settings with such names (dpkg(1)), to keep what it replaces for this folder. */
async function keepers(stateDir: string): Promise<string[]> {
  const names = (await readdir(dpkgFolder)).filter((name) => /^[\w-]+$/.test(name));
  const texts = await Promise.all(
    names.map((name) => readFile(join(dpkgFolder, name), 'utf8').catch(() => '')),
  );
  const words = texts
    .flatMap((text) => text.split('\n'))
    .filter((line) => /^\s*pre-invoke[\s=]/.test(line))
    .flatMap((line) => line.split(/[\s;]+/));
  return words.filter((word, index) => word.endsWith('/torpor-keep') && words[index + 1] === stateDir);
}

const checkKeptFiles: Check = async ({ paths, installation }) => {
  const lacking = {
    name: 'kept-files',
    status: 'warning',
    why: 'After an upgrade of a library, what is suspended and has it in memory is refused until the library is put back.',
  } as const;
  const found = await keepers(paths.stateDir).catch(() => undefined);
  if (found === undefined)
    return {
      ...lacking,
      found: 'replaced libraries are not kept: packages are not those of dpkg here',
      fix: '',
    };
  for (const program of found) {
    const isThere = await access(program, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return ok(lacking.name, `replaced libraries are kept in ${paths.stateDir}/kept-files`);
  }
  const name = paths.tag === 'default' ? 'torpor' : `torpor-${paths.tag}`;
  const { keep } = installation;
  return {
    ...lacking,
    found: `replaced libraries are not kept: dpkg does not start ${found[0] ?? `torpor-keep ${paths.stateDir}`}`,
    fix: `echo 'pre-invoke=if test -x ${keep}; then ${keep} ${paths.stateDir} || true; fi' > ${dpkgFolder}/${name}`,
  };
};

const checkSwap: Check = async () => {
  const info = await readFile('/proc/meminfo', 'utf8');
  const total = Number(/^SwapTotal:\s+(\d+)/m.exec(info)?.[1] ?? 0) * 1024;
  if (total > 0) return ok('swap', `${(total / gib).toFixed(1)} GiB`);
  return {
    name: 'swap',
    status: 'warning',
    found: 'none',
    why: 'Suspending does not need it; a nap frees little without it.',
    fix: 'apt-get install zram-tools',
  };
};

const checkProfiles: Check = async ({ profiles }, user) => {
  const { profiles: sound, problems } = await profiles.read(user);
  if (problems.length === 0) return ok('profiles', `${sound.length} without a mistake`);
  return {
    name: 'profiles',
    status: 'warning',
    found: sentencesOf(problems).join(' '),
    why: 'A profile with a mistake is left out, so applications are started without it.',
    fix: `\${EDITOR:-vi} ${[...new Set(problems.map(({ file }) => file))].join(' ')}`,
  };
};

const checks: Check[] = [
  checkKernel,
  checkCapabilities,
  checkCriu,
  checkCgroups,
  checkXServer,
  checkWindowManager,
  checkBus,
  checkTar,
  checkSound,
  checkState,
  checkDisk,
  checkSwap,
  checkKeptFiles,
  checkProfiles,
];

/** All checks for a user, in the order in which they matter. */
export function diagnose(parts: DoctorParts, user: User): Promise<DoctorCheck[]> {
  return Promise.all(checks.map((check) => check(parts, user)));
}

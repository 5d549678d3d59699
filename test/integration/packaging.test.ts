/** The files of packaging/, judged by the programs that will read them: a real dbus-daemon, and those of systemd. */

import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { SystemServices } from '../support/login-manager.ts';

const packaging = fileURLToPath(new URL('../../packaging', import.meta.url));
const nobody = { uid: 65534, gid: 65534 };

/** Calls a method of the bus itself, as the given user, and returns what gdbus printed. */
function callBus(address: string, method: string, args: string[], user = {}): Promise<string> {
  return new Promise((resolve) => {
    execFile(
      'gdbus',
      [
        'call',
        '--address',
        address,
        '--dest',
        'org.freedesktop.DBus',
        '--object-path',
        '/org/freedesktop/DBus',
      ].concat(['--method', `org.freedesktop.DBus.${method}`, ...args]),
      { encoding: 'utf8', ...user },
      (_error, stdout, stderr) => resolve(stdout + stderr),
    );
  });
}

it("lets only root own the engine's name on a system bus", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'torpor-bus-'));
  chmodSync(folder, 0o755);
  const config = join(folder, 'bus.conf');
  // A system bus's defaults: nobody owns a name, nobody calls a method, until a policy file says otherwise.
  writeFileSync(
    config,
    `<busconfig>
       <type>system</type>
       <listen>unix:path=${folder}/bus</listen>
       <auth>EXTERNAL</auth>
       <policy context="default">
         <allow user="*"/><deny own="*"/><deny send_type="method_call"/>
         <allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
         <allow send_destination="org.freedesktop.DBus"/>
       </policy>
       <include>${packaging}/dbus/io.github.torpor.Engine1.conf</include>
     </busconfig>`,
  );
  const daemon = spawn('dbus-daemon', [`--config-file=${config}`, '--nofork', '--print-address'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const address = String((await once(daemon.stdout, 'data'))[0]).trim();
    const name = 'io.github.torpor.Engine1';
    expect(await callBus(address, 'RequestName', [name, '0'], nobody)).toContain('AccessDenied');
    expect(await callBus(address, 'RequestName', [name, '0'])).toBe('(uint32 1,)\n');
  } finally {
    daemon.kill();
    await once(daemon, 'exit');
    rmSync(folder, { recursive: true });
  }
});

const record = new URL('../../docs/decisions/0032-hardened-unit.md', import.meta.url).pathname;
const unit = join(packaging, 'systemd/torpord.service');

it('explains each directive of the unit, and each that systemd would have it set', () => {
  // A bar is a table's.
  const explained = readFileSync(record, 'utf8').replaceAll('\\|', '|');
  const set = readFileSync(unit, 'utf8')
    .split('\n')
    .flatMap((line) => /^([A-Z]\w+)=/.exec(line)?.[1] ?? []);
  expect(set.length).toBeGreaterThan(10);
  expect(set.filter((name) => !explained.includes(`\`${name}=`))).toEqual([]);
  const said = execFileSync('systemd-analyze', ['security', '--offline=true', '--json=short', unit]);
  const scored = JSON.parse(said.toString()) as { name: string }[];
  expect(scored.length).toBeGreaterThan(70);
  expect(scored.filter(({ name }) => !explained.includes(`\`${name}\``))).toEqual([]);
});

/** Runs a script as root where it sees, and changes, copies of /etc, /opt and /usr alone. */
function inCopy(script: string): string {
  const place = mkdtempSync('/var/tmp/torpor-copy-');
  const copies = ['etc', 'opt', 'usr'].map(
    (name) =>
      `mkdir -p ${place}/${name}/upper ${place}/${name}/work && mount -t overlay -o ` +
      `lowerdir=/${name},upperdir=${place}/${name}/upper,workdir=${place}/${name}/work overlay /${name}`,
  );
  const commands = [`mount -t tmpfs tmpfs ${place}`, ...copies, `cd ${packaging}`, script];
  try {
    return execFileSync(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-c', commands.join(' && ')],
      { encoding: 'utf8', env: { ...process.env, XDG_RUNTIME_DIR: '/tmp' }, stdio: 'pipe' },
    );
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

const install = `mkdir -p /opt/Torpor/resources/engine /usr/lib/systemd/user /usr/lib/systemd/logind.conf.d &&
  touch /opt/Torpor/chrome-sandbox && cp app/bin/* /opt/Torpor/resources/engine/ &&
  cp systemd/torpord.service /usr/lib/systemd/system/ && cp systemd/user/* /usr/lib/systemd/user/ &&
  cp systemd/logind.conf.d/* /usr/lib/systemd/logind.conf.d/`;
const enabled =
  '{ for unit in torpord.service "--global torpor-restore.service" "--global torpor-app.service"; do ' +
  'systemctl is-enabled $unit || true; done; }';

it('brings units that systemd accepts, and a setting that the log-in manager reads', () => {
  const said = inCopy(`{ ${install} && sh app/after-install.sh configure '' 2>/dev/null &&
    systemd-analyze verify torpord.service && systemd-analyze --user verify torpor-app.service torpor-restore.service &&
    systemd-analyze cat-config systemd/logind.conf; } 2>&1`);
  expect(said).toContain('InhibitDelayMaxSec=120');
  expect(said).not.toMatch(/torpor\S*:\d|Unknown|not executable/);
});

it('has the log-in manager wait as long, also beside a package that sets less', async () => {
  await using services = await SystemServices.create();
  const folder = services.seen('/run/systemd/logind.conf.d');
  cpSync(join(packaging, 'systemd/logind.conf.d'), folder, { recursive: true });
  // As unattended-upgrades has it.
  writeFileSync(
    join(folder, 'unattended-upgrades-logind-maxdelay.conf'),
    '[Login]\n# delay\nInhibitDelayMaxSec=30\n',
  );
  await services.startLogind();
  const login = ['org.freedesktop.login1', '/org/freedesktop/login1', 'org.freedesktop.login1.Manager'];
  const limit = await services.run('busctl', [
    ...['--system', 'get-property', ...login, 'InhibitDelayMaxUSec'],
  ]);
  expect(limit).toBe('t 120000000');
});

const run = (script: string, words: string) => `sh app/${script}.sh ${words} >/dev/null 2>&1`;
const ofAdministrator = (verb: string) => `systemctl ${verb} torpord.service 2>/dev/null`;
const filesGo = 'rm /usr/lib/systemd/system/torpord.service /usr/lib/systemd/user/torpor-*';
const all = ['enabled', 'enabled', 'disabled'];
const restoreOnly = ['disabled', 'enabled', 'disabled'];
const none = ['disabled', 'disabled', 'disabled'];

it.each([
  ['deb', "configure ''", 'configure 0.0.9'],
  ['rpm', '1', '2'],
])('enables them with the first %s alone', (_kind, first, next) => {
  const steps = [run('after-install', first), enabled, ofAdministrator('disable')];
  const said = inCopy([install, ...steps, run('after-install', next), enabled].join(' && '));
  expect(said.trim().split('\n')).toEqual([...all, ...restoreOnly]);
});

it('disables them with the end of an rpm', () => {
  const said = inCopy([install, run('after-install', '1'), run('before-remove', '0'), enabled].join(' && '));
  expect(said.trim().split('\n')).toEqual(none);
});

it('enables them again with a deb that was removed and comes back, and not after a purge', () => {
  const removal = [run('before-remove', 'remove'), filesGo, run('after-remove', 'remove')];
  // dpkg names the version that was removed.
  const again = [...removal, install, run('after-install', 'configure 0.0.9'), enabled];
  const said = inCopy(
    [
      ...[install, run('after-install', "configure ''"), ...again],
      ...[ofAdministrator('disable'), ...again],
      ...[ofAdministrator('enable'), ...removal, run('after-remove', 'purge'), install, enabled],
    ].join(' && '),
  );
  expect(said.trim().split('\n')).toEqual([...all, ...restoreOnly, ...none]);
});

/** The files of packaging/, judged by the program that will read them, a real dbus-daemon. */

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

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

/**
 * A bus of the engine's own, for machines without a system bus and for engines beside the default one: a real
 * dbus-daemon with a policy as strict as the packaged one. It ends with the engine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TorporError } from '../../api/errors.ts';
import type { EnginePaths } from '../../api/paths.ts';

const startLimitMs = 10_000;

function configuration(socket: string): string {
  return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <deny send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="io.github.torpor.Engine1"/>
  </policy>
  <policy user="root">
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
  </policy>
  <limit name="max_incoming_bytes">33554432</limit>
</busconfig>
`;
}

export interface PrivateBus extends AsyncDisposable {
  readonly address: string;
}

/**
 * Starts the bus and waits until it listens.
 * @throws TorporError `failed` where dbus-daemon is not installed or does not come up.
 */
export async function startPrivateBus(paths: EnginePaths): Promise<PrivateBus> {
  await rm(paths.busSocket, { force: true });
  const configFile = join(paths.runDir, 'bus.conf');
  await writeFile(configFile, configuration(paths.busSocket), { mode: 0o644 });
  // The parent-death signal ends the daemon also when the engine is killed.
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      'dbus-daemon',
      '--nofork',
      '--nopidfile',
      `--config-file=${configFile}`,
      '--print-address=3',
    ],
    { stdio: ['ignore', 'ignore', 'pipe', 'pipe'], cwd: '/' },
  );
  const address = await firstLine(child);
  return {
    address: address.replace(/,guid=.*$/, ''),
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGTERM');
      await ended;
      await rm(paths.busSocket, { force: true });
      await rm(configFile, { force: true });
    },
  };
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let complaints = '';
    const fail = (reason: string) => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      reject(
        new TorporError(
          'failed',
          `The engine's bus did not start: ${reason}.`,
          'Install the package dbus (`apt-get install dbus`) or see `torpor doctor`.',
        ),
      );
    };
    const timer = setTimeout(() => fail('it took too long'), startLimitMs);
    child.once('error', (error) => fail(error.message));
    child.once('exit', () => fail(complaints.trim() || 'dbus-daemon ended at once'));
    child.stderr?.on('data', (text: Buffer) => {
      complaints += text.toString();
    });
    let line = '';
    child.stdio[3]?.on('data', (text: Buffer) => {
      line += text.toString();
      if (!line.includes('\n')) return;
      clearTimeout(timer);
      child.removeAllListeners('exit');
      resolve(line.trim());
    });
  });
}

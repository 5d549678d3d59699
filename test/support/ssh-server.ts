/** A real sshd on a port of its own, which lets a user in by a key that was made for it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export class SshServer implements AsyncDisposable {
  readonly address: string;
  /** For `torpor export`. */
  readonly options: readonly string[];
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(folder: string, user: string, port: number, child: ChildProcess) {
    this.#folder = folder;
    this.#child = child;
    this.address = `ssh://${user}@127.0.0.1:${port}`;
    const settings = [`IdentityFile=${join(folder, 'user')}`, 'IdentitiesOnly=yes', 'BatchMode=yes'];
    const trust = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'];
    this.options = [...settings, ...trust].flatMap((option) => ['--ssh-option', option]);
  }

  static async start(user: string): Promise<SshServer> {
    const folder = await mkdtemp('/var/tmp/torpor-sshd-');
    // sshd looks for the key as the user.
    await chmod(folder, 0o755);
    for (const name of ['host', 'user'])
      await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
    await copyFile(join(folder, 'user.pub'), join(folder, 'authorized'));
    const port = await freePort();
    const settings = [
      ...[`Port ${port}`, 'ListenAddress 127.0.0.1', `HostKey ${join(folder, 'host')}`],
      ...[`AuthorizedKeysFile ${join(folder, 'authorized')}`, 'StrictModes no', 'UsePAM no'],
      ...['PasswordAuthentication no', `PidFile ${join(folder, 'pid')}`],
    ];
    await writeFile(join(folder, 'sshd.conf'), `${settings.join('\n')}\n`);
    // Where the package has never been started it is not there.
    await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
    const child = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', join(folder, 'sshd.conf')], { stdio: 'ignore' });
    for (const limit = Date.now() + 10_000; !(await answers(port)); await sleep(50))
      if (Date.now() > limit) throw new Error('sshd does not answer');
    return new SshServer(folder, user, port, child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) {
      this.#child.kill();
      await once(this.#child, 'exit');
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/**
 * `torpor exec`: a command inside a capsule, its input and output carried over a socket that only the caller can
 * open. Bulk data never crosses D-Bus.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { encodeFrame, FrameReader } from '../../api/exec-stream.ts';
import type { EnginePaths } from '../../api/paths.ts';
import type { ExecSpec } from '../../api/types.ts';
import { sessionEnvironment } from '../capsule/environment.ts';
import type { Installation } from '../installation.ts';
import type { Logger } from '../log.ts';
import type { Cgroups } from '../workload/cgroup.ts';
import type { CapsuleRecord, StatusOf } from '../workload/record.ts';
import type { Caller } from '../workload/registry.ts';

/** A socket nobody has connected to by then is closed. */
const connectLimitMs = 10_000;

export class ExecRelay {
  readonly #folder: string;
  readonly #installation: Installation;
  readonly #cgroups: Cgroups;
  readonly #log: Logger;

  constructor(paths: EnginePaths, installation: Installation, cgroups: Cgroups, log: Logger) {
    this.#folder = join(paths.runDir, 'exec');
    this.#installation = installation;
    this.#cgroups = cgroups;
    this.#log = log;
  }

  /** Opens the socket; the command starts when the caller connects. @returns the socket's path. */
  async prepare(
    record: CapsuleRecord & { status: StatusOf<'running'> },
    spec: ExecSpec,
    caller: Caller,
  ): Promise<string> {
    await mkdir(this.#folder, { recursive: true, mode: 0o711 });
    const path = join(this.#folder, randomBytes(8).toString('hex'));
    const server = createServer({ allowHalfOpen: true });
    server.maxConnections = 1;
    const close = () => {
      clearTimeout(timer);
      server.close();
      void rm(path, { force: true });
    };
    const timer = setTimeout(close, connectLimitMs);
    server.once('connection', (socket) => {
      close();
      this.#serve(socket, record, spec);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    await chmod(path, 0o600);
    await chown(path, caller.uid, -1 as number);
    return path;
  }

  #serve(socket: Socket, record: CapsuleRecord & { status: StatusOf<'running'> }, spec: ExecSpec): void {
    const { user, env, cwd } = record.capsule;
    const settings = Object.entries({ ...sessionEnvironment(record.capsule), ...env, ...spec.env }).flatMap(
      ([name, value]) => ['--env', `${name}=${value}`],
    );
    const child = spawn(
      this.#installation.capsuleTool,
      [
        'exec',
        String(record.status.init.pid),
        ...['--uid', String(user.uid), '--gid', String(user.gid), '--groups', user.groups.join(',')],
        ...['--cwd', cwd, '--cgroup', this.#cgroups.pathOf(record.id)],
        ...settings,
        '--',
        ...spec.command,
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    connect(child, socket);
    this.#log.info({ workload: record.id, command: spec.command[0] }, 'exec');
  }
}

function connect(child: ChildProcess, socket: Socket): void {
  const frames = new FrameReader();
  socket.on('data', (bytes) => {
    try {
      for (const { kind, payload } of frames.push(bytes)) {
        if (kind === 'input') child.stdin?.write(payload);
        if (kind === 'inputEnd') child.stdin?.end();
      }
    } catch {
      socket.destroy();
    }
  });
  // A command that does not read its input, or a caller that has gone, is no defect.
  child.stdin?.on('error', () => {});
  socket.on('error', () => {});
  socket.on('close', () => child.kill('SIGHUP'));
  child.stdout?.on('data', (bytes: Buffer) => socket.write(encodeFrame('output', bytes)));
  child.stderr?.on('data', (bytes: Buffer) => socket.write(encodeFrame('errors', bytes)));
  const finish = (code: number) => socket.end(encodeFrame('exit', Buffer.from(JSON.stringify({ code }))));
  child.on('error', () => finish(126));
  child.on('close', (code) => finish(code ?? 128));
}

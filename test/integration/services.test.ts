/** Well-known services outside, each the real one: what becomes of a connection to it where the user has not chosen. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Finding, Inspection, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { SocketClient } from '../support/sockets.ts';
import { soundTool, UserSound } from '../support/sound.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);
let engine: TestEngine;
let folder: string;
const started: ChildProcess[] = [];

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-services-');
});
afterEach(async () => {
  for (const child of started.splice(0)) await end(child);
  await rm(folder, { recursive: true, force: true });
});

/** Starts a service and waits for its socket. */
async function serve(socket: string, command: readonly string[], env: Record<string, string> = {}) {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: 'ignore', cwd: '/', env: { ...process.env, ...env } });
  started.push(child);
  await once(child, 'spawn');
  await vi.waitFor(() => expect(existsSync(socket)).toBe(true), { timeout: 20_000, interval: 20 });
  return child;
}

/** A client that Torpor did not start; it has the last word on when it connects. */
const connect = (kind: 'stream' | 'datagram', path: string) =>
  SocketClient.startJob(engine, ['connect', kind, path]);

async function suspend(client: { id: string }): Promise<Finding[]> {
  const { workload, findings } = await engine.json<Snapshot & { findings: Finding[] }>('suspend', client.id);
  client.id = workload;
  return findings.filter(({ tie }) => tie === 'unix-socket');
}

async function resume({ id }: { id: string }): Promise<Finding[]> {
  const { findings } = await engine.json<Workload & { findings: Finding[] }>('resume', id);
  return findings.filter(({ tie }) => tie === 'unix-socket');
}

const blockers = async (target: string) =>
  (await engine.failure(3, 'suspend', target)).findings?.filter(({ verdict }) => verdict === 'blocking') ??
  [];

describe.runIf(canCheckpoint)('the SSH agent', () => {
  /** SSH_AGENTC_REQUEST_IDENTITIES, and the answer of an agent that has none. */
  const request = 'send \0\0\0\u0001\u000b';
  const answer = '\0\0\0\u0005\u000c\0\0\0\0';
  const socketIn = async () => {
    const path = join(folder, 'ssh-XXXXtest', 'agent.1');
    await mkdir(join(folder, 'ssh-XXXXtest'));
    return path;
  };
  const serveAgent = (path: string) => serve(path, ['ssh-agent', '-D', '-a', path]);

  it('is connected again, also one that was started anew', async () => {
    const path = await socketIn();
    const agent = await serveAgent(path);
    await using client = await connect('stream', path);
    expect(await client.do(request)).toBe('sent');
    expect(await client.do('recv')).toBe(answer);
    expect(await suspend(client)).toMatchObject([
      {
        verdict: 'handled',
        what: expect.stringContaining('talks to the SSH agent'),
        hint: expect.stringContaining('connected again'),
      },
    ]);
    await end(agent);
    await rm(path, { force: true });
    await serveAgent(path);
    expect(await resume(client)).toEqual([]);
    expect(await client.do(request)).toBe('sent');
    expect(await client.do('recv')).toBe(answer);
  });

  it('that is not there any more has hung up, and the resume says so', async () => {
    const path = await socketIn();
    const agent = await serveAgent(path);
    await using client = await connect('stream', path);
    await suspend(client);
    await end(agent);
    await rm(path, { force: true });
    expect(await resume(client)).toMatchObject([{ verdict: 'degraded' }]);
    expect(await client.do('recv')).toBe('EOF');
  });

  it('that has not answered yet blocks the suspend', async () => {
    const path = await socketIn();
    const agent = await serveAgent(path);
    await using client = await connect('stream', path);
    agent.kill('SIGSTOP');
    expect(await client.do(request)).toBe('sent');
    expect(await blockers(client.id)).toMatchObject([
      { what: expect.stringContaining('has just asked the SSH agent'), hint: 'Try again in a moment.' },
    ]);
    agent.kill('SIGCONT');
    expect(await client.do('recv')).toBe(answer);
    await suspend(client);
    await resume(client);
  });

  it('whose answer somebody sleeps for blocks it too', async () => {
    const path = await socketIn();
    await serveAgent(path);
    // The agent has read this and waits for the rest of it.
    const script =
      'import os, socket, sys; os.closerange(3, 1024); s = socket.socket(socket.AF_UNIX); ' +
      's.connect(sys.argv[1]); s.send(b"\\0\\0\\0\\5"); s.recv(1)';
    const child = spawn('python3', ['-c', script, path], { stdio: 'ignore', detached: true, cwd: '/' });
    started.push(child);
    await once(child, 'spawn');
    await vi.waitFor(
      async () => {
        const { stdout } = await engine.run(['inspect', '--json', String(child.pid)]);
        const { findings } = JSON.parse(stdout) as Inspection;
        expect(findings).toContainEqual(
          expect.objectContaining({
            verdict: 'blocking',
            what: expect.stringContaining('has just asked the SSH agent'),
          }),
        );
      },
      { timeout: 30_000, interval: 200 },
    );
  });
});

describe.runIf(canCheckpoint)('the GnuPG agent', () => {
  it('has hung up: what was agreed on with it belongs to the connection', async () => {
    // In the folder for what runs, where the user has one.
    const { stdout } = await run('gpgconf', ['--homedir', folder, '--list-dirs', 'agent-socket']);
    const path = stdout.trim();
    await using _ = {
      async [Symbol.asyncDispose]() {
        await run('gpgconf', ['--homedir', folder, '--remove-socketdir']);
      },
    };
    await serve(path, ['gpg-agent', '--homedir', folder, '--daemon', '--no-detach', '--', 'sleep', '1000']);
    await using client = await connect('stream', path);
    expect(await client.do('recv')).toMatch(/^OK /);
    expect(await suspend(client)).toMatchObject([
      { verdict: 'degraded', what: expect.stringContaining('talks to the GnuPG agent') },
    ]);
    expect(await resume(client)).toEqual([]);
    expect(await client.do('recv')).toBe('EOF');
    expect(await client.do('send GETINFO version\n')).toBe('EPIPE');
  });
});

describe.runIf(canCheckpoint)('the system log', () => {
  it('is written to again, also one that was started anew', async () => {
    const path = join(folder, 'log');
    const written = join(folder, 'messages');
    const settings = join(folder, 'rsyslog.conf');
    await writeFile(
      settings,
      `module(load="imuxsock" SysSock.Use="off")\ninput(type="imuxsock" Socket="${path}")\n*.* action(type="omfile" file="${written}")\n`,
    );
    const serveLog = () => serve(path, ['rsyslogd', '-n', '-f', settings, '-i', join(folder, 'pid')]);
    const hears = (text: string) =>
      vi.waitFor(async () => expect(await readFile(written, 'utf8')).toContain(text), {
        timeout: 20_000,
        interval: 50,
      });
    const log = await serveLog();
    await using client = await connect('datagram', path);
    expect(await client.do('send <13>client: before')).toBe('sent');
    await hears('before');
    expect(await suspend(client)).toMatchObject([
      { verdict: 'handled', what: expect.stringContaining('talks to the system log') },
    ]);
    await end(log);
    await rm(path, { force: true });
    await rm(join(folder, 'pid'), { force: true });
    await serveLog();
    expect(await resume(client)).toEqual([]);
    expect(await client.do('send <13>client: afterwards')).toBe('sent');
    await hears('afterwards');
  });
});

describe.runIf(canCheckpoint)('the sound server PulseAudio', () => {
  it('has hung up, as its clients are told', async () => {
    await using sound = await UserSound.create();
    await sound.start();
    const heard = join(folder, 'heard');
    // Without memory in common with the server, which is another tie.
    await writeFile(join(folder, 'client.conf'), 'enable-shm = no\nenable-memfd = no\n');
    const script =
      'import os, sys; os.closerange(3, 1024); out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND); ' +
      'os.dup2(out, 1); os.dup2(out, 2); os.close(out); os.execv(sys.argv[2], [sys.argv[2], "subscribe"])';
    const child = spawn('python3', ['-c', script, heard, soundTool('pactl')], {
      stdio: 'ignore',
      detached: true,
      cwd: '/',
      env: {
        ...process.env,
        HOME: folder,
        PULSE_SERVER: sound.address,
        PULSE_CLIENTCONFIG: join(folder, 'client.conf'),
      },
    });
    started.push(child);
    await once(child, 'spawn');
    const client = { id: String(child.pid) };
    await vi.waitFor(async () => expect(await connected(client.id)).toBe(true), {
      timeout: 20_000,
      interval: 200,
    });
    expect(await suspend(client)).toMatchObject([
      { verdict: 'degraded', what: expect.stringContaining('talks to the sound server PulseAudio') },
    ]);
    await resume(client);
    await vi.waitFor(async () => expect(await readFile(heard, 'utf8')).toContain('Connection terminated'), {
      timeout: 20_000,
      interval: 50,
    });
  });
});

async function connected(target: string): Promise<boolean> {
  const { stdout } = await engine.run(['inspect', '--json', target]);
  return (JSON.parse(stdout) as Inspection).findings.some(({ what }) => what.includes('PulseAudio'));
}

/** Services of a desktop, each the real one or on a real bus, of which a job has a connection: what becomes of it by default. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { EchoServer, SocketClient } from '../support/sockets.ts';
import { rate, soundTool, tone, UserSound } from '../support/sound.ts';
import { canCheckpoint } from './criu-fixture.ts';

const python = '/usr/bin/python3';
const busClient = new URL('../fixtures/gdbus_client.py', import.meta.url).pathname;

const soon = <T>(check: () => Promise<T>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

let engine: TestEngine;
let folder: string;
const started: ChildProcess[] = [];

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterAll(() => engine[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp('/var/tmp/torpor-desktop-');
});
afterEach(async () => {
  for (const child of started.splice(0).reverse()) await end(child);
  await rm(folder, { recursive: true, force: true });
});

async function start(command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<ChildProcess> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    stdio: 'ignore',
    detached: true,
    cwd: '/',
    env: { ...process.env, HOME: folder, ...env },
  });
  started.push(child);
  await once(child, 'spawn');
  return child;
}

/** With what it has started, as the launcher of a bus does. */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    // Reaped, of which its event tells in a moment.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  await exited;
}

/** A program that Torpor did not start, with its output in a file and nothing open of whoever started it. */
function startJob(command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<ChildProcess> {
  const script =
    'import os, sys; os.closerange(3, 1024); out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND); ' +
    'os.dup2(out, 1); os.dup2(out, 2); os.close(out); os.execvp(sys.argv[2], sys.argv[2:])';
  return start([python, '-c', script, join(folder, 'said'), ...command], env);
}

const said = (file = 'said') => readFile(join(folder, file), 'utf8').catch(() => '');

const inspect = async (target: string): Promise<Finding[]> => {
  const { stdout } = await engine.run(['inspect', '--json', target]);
  return (JSON.parse(stdout) as { findings: Finding[] }).findings;
};

/** Once it talks to this service. */
const talking = (target: string, service: string) =>
  soon(async () => {
    const findings = await inspect(target);
    expect(findings.map(({ what }) => what)).toContainEqual(expect.stringContaining(`talks to ${service} (`));
    return findings;
  });

const about = (findings: readonly Finding[], service: string) =>
  findings.filter(({ tie, what }) => tie === 'unix-socket' && what.includes(service));

/** Suspends and resumes it. @returns its id and what the suspend said. */
async function overSuspend(target: string): Promise<{ id: string; findings: Finding[] }> {
  const { workload, findings } = await engine.json<Snapshot & { findings: Finding[] }>('suspend', target);
  await engine.json<Workload>('resume', workload);
  return { id: workload, findings };
}

async function startBus(address: string, socket?: string): Promise<void> {
  await start(['dbus-daemon', '--session', '--nofork', `--address=${address}`]);
  if (socket !== undefined) await soon(async () => expect(existsSync(socket)).toBe(true));
}

/** A program of GLib on that bus; it hears of its end. */
async function expectHungUp(address: string, service: string): Promise<void> {
  const client = await startJob([python, busClient, folder, 'io.github.torpor.Test', address]);
  await soon(async () => expect(await said('heard')).toContain('owned'));
  const { id, findings } = await overSuspend(String(client.pid));
  expect(about(findings, service)).toMatchObject([{ verdict: 'degraded', by: 'engine' }]);
  await soon(async () => expect(await said('heard')).toContain('closed'));
  await engine.run(['end', id]);
}

describe.runIf(canCheckpoint)('a job', () => {
  it('with a window on the X server of the desktop is not suspended, and told to be started in a capsule', async () => {
    await using display = await TestDisplay.start();
    const client = await startJob(['xev'], { DISPLAY: display.name });
    await talking(String(client.pid), 'the X server');
    const { findings = [] } = await engine.failure(3, 'suspend', String(client.pid));
    expect(about(findings, 'the X server')).toMatchObject([
      { verdict: 'blocking', hint: expect.stringContaining('torpor run') },
    ]);
    expect(client.exitCode).toBeNull();
  });

  it('on the accessibility bus finds that it has hung up', async () => {
    await startBus(`unix:path=${folder}/bus`, `${folder}/bus`);
    const env = { DBUS_SESSION_BUS_ADDRESS: `unix:path=${folder}/bus`, XDG_RUNTIME_DIR: folder };
    await start(['/usr/libexec/at-spi-bus-launcher', '--launch-immediately'], env);
    const socket = await soon(async () => {
      const [name = ''] = (await readdir(join(folder, 'at-spi'))).filter((each) => each.startsWith('bus'));
      expect(name).not.toBe('');
      return join(folder, 'at-spi', name);
    });
    await expectHungUp(`unix:path=${socket}`, 'the accessibility bus');
  });

  it('on the bus of IBus finds that it has hung up', async () => {
    const address = `unix:abstract=${folder}/.cache/ibus/dbus-test`;
    await startBus(address);
    await soon(async () => expect(await readFile('/proc/net/unix', 'utf8')).toContain('ibus/dbus-test'));
    await expectHungUp(address, 'the input method');
  });

  it('with the socket of Fcitx finds that it has hung up', async () => {
    const path = join(folder, 'fcitx-socket-:7');
    await using _server = await EchoServer.start('stream', path);
    await using client = await SocketClient.startJob(engine, ['connect', 'stream', path]);
    const { id, findings } = await overSuspend(client.id);
    client.id = id;
    expect(about(findings, 'the input method')).toMatchObject([{ verdict: 'degraded', by: 'engine' }]);
    expect(await client.do('recv')).toBe('EOF');
  });

  it('of PulseAudio with its defaults finds that it has hung up, and the memory in common with it its own', async () => {
    const prefix = join(soundTool('pulseaudio'), '../..');
    const libraries = join(prefix, 'lib/x86_64-linux-gnu');
    const version = (await readdir(join(prefix, 'lib'))).find((each) => each.startsWith('pulse-')) ?? '';
    const modules = join(prefix, 'lib', version, 'modules');
    const socket = join(folder, 'pulse', 'native');
    await mkdir(join(folder, 'pulse'));
    await start(
      [
        ...[soundTool('pulseaudio'), '-n', '--daemonize=no', '--use-pid-file=no', '--exit-idle-time=-1'],
        ...['--realtime=no', '--high-priority=no', '-p', modules],
        ...['-L', `module-native-protocol-unix socket=${socket} auth-anonymous=1`, '-L', 'module-null-sink'],
      ],
      { LD_LIBRARY_PATH: [libraries, join(libraries, 'pulseaudio'), modules].join(':') },
    );
    await soon(async () => expect(existsSync(socket)).toBe(true));
    const client = await startJob([soundTool('pacat'), '--playback', '/dev/zero'], {
      PULSE_SERVER: `unix:${socket}`,
    });
    const before = await talking(String(client.pid), 'the sound server PulseAudio');
    expect(before.filter(({ verdict }) => verdict === 'blocking')).toEqual([]);
    const { id, findings } = await overSuspend(String(client.pid));
    expect(about(findings, 'PulseAudio')).toMatchObject([{ verdict: 'degraded', by: 'engine' }]);
    expect(findings.filter(({ tie }) => tie === 'shared-memory')).toMatchObject([
      { verdict: 'degraded', by: 'criu', what: expect.stringContaining('memfd') },
    ]);
    await soon(async () => expect(await said()).toContain('Connection terminated'));
    await engine.run(['end', id]);
  });

  it('of PipeWire that plays finds that it has hung up, and the memory in common with it its own', async () => {
    await using sound = await UserSound.create('PipeWire');
    await sound.start();
    await writeFile(join(folder, 'tone.wav'), wav(tone(20)));
    const homes = (await readdir(sound.folder)).filter((each) => each.startsWith('home-'));
    const home = join(sound.folder, homes[0] ?? '');
    const player = soundTool('pw-cat');
    const libraries = join(player, '../../lib/x86_64-linux-gnu');
    const client = await startJob([player, '--playback', '--volume=0.1', join(folder, 'tone.wav')], {
      LD_LIBRARY_PATH: libraries,
      PIPEWIRE_RUNTIME_DIR: home,
      PIPEWIRE_MODULE_DIR: join(libraries, 'pipewire-0.3'),
      PIPEWIRE_CONFIG_DIR: join(home, 'pipewire'),
      SPA_PLUGIN_DIR: join(libraries, 'spa-0.2'),
    });
    const before = await talking(String(client.pid), 'the sound and video server PipeWire');
    expect(before.filter(({ verdict }) => verdict === 'blocking')).toEqual([]);
    const { id, findings } = await overSuspend(String(client.pid));
    expect(about(findings, 'PipeWire')).toMatchObject([{ verdict: 'degraded', by: 'engine' }]);
    expect(findings.filter(({ tie }) => tie === 'shared-memory')).toMatchObject([
      { verdict: 'degraded', by: 'criu', what: expect.stringContaining('memfd') },
    ]);
    await soon(async () => expect(await said()).toContain('connection error'));
    await engine.run(['end', id]);
  });
});

/** As a file that every player takes. */
function wav(samples: Buffer): Buffer {
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + samples.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(2, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(rate * 4, 28);
  head.writeUInt16LE(4, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(samples.length, 40);
  return Buffer.concat([head, samples]);
}

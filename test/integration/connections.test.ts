/** TCP connections across a suspend and a resume: kept where both ends still agree, otherwise closed. */
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Finding, Inspection, Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { locks, OtherSide } from '../support/other-side.ts';

const run = promisify(execFile);
const program = new URL('../fixtures/connected.py', import.meta.url).pathname;
const soon = { timeout: 20_000, interval: 50 };

let engine: TestEngine;
let folder: string;
let files = 0;
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-connections-');
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function listen(host?: string): Promise<OtherSide> {
  const side = await OtherSide.listen(host);
  ends.push(() => side[Symbol.asyncDispose]());
  return side;
}

interface Client {
  pid: number;
  seen: (text: string) => Promise<void>;
}

/** A job in a session of its own, without a terminal, and with nothing of whoever started the tests. */
function startJob(...command: string[]): number {
  const start = 'import os, sys; os.closerange(3, 1024); os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])';
  const child = spawn('python3', ['-c', start, ...command], { stdio: 'ignore' });
  ends.push(async () => child.kill('SIGKILL'));
  return child.pid ?? 0;
}

/** A client as a job. */
async function connect(side: OtherSide, host = '127.0.0.1', ...rest: string[]): Promise<Client> {
  const path = join(folder, `seen-${files++}`);
  const pid = startJob('python3', program, host, String(side.port), path, ...rest);
  await side.hears('hello\n');
  side.heard = '';
  const seen = (text: string) =>
    vi.waitFor(async () => expect(await readFile(path, 'utf8')).toBe(text), soon);
  return { pid, seen };
}

const suspend = async (target: string | number, ...options: string[]) => {
  const snapshot = await engine.json<Snapshot & { findings: Finding[] }>(
    'suspend',
    String(target),
    ...options,
  );
  ends.push(() => engine.run(['end', snapshot.workload]));
  return snapshot;
};
const resume = (target: string, ...options: string[]) =>
  engine.json<Workload & { findings: Finding[] }>('resume', target, ...options);

/** An address that this machine has for a while. */
async function address(text: string): Promise<AsyncDisposable> {
  await run('ip', ['address', 'add', text, 'dev', 'lo']);
  const drop = () => run('ip', ['address', 'del', text, 'dev', 'lo']).catch(() => {});
  ends.push(drop);
  return { [Symbol.asyncDispose]: async () => void (await drop()) };
}

describe('a connection of a job', () => {
  it.each(['127.0.0.1', '::1'])('goes on, with what was said meanwhile, by %s', async (host) => {
    const side = await listen(host);
    const client = await connect(side, host);
    const inspection = await engine.json<Inspection>('inspect', String(client.pid));
    expect(inspection.findings).toContainEqual(
      expect.objectContaining({ tie: 'internet-socket', verdict: 'handled' }),
    );
    side.say('1');
    await side.hears('echo 1\n');
    const { workload: id } = await suspend(client.pid);
    expect(await locks()).toHaveLength(1);
    side.say('2');
    await sleep(500);
    expect(side.closed).toBe(false);
    const { findings } = await resume(id);
    expect(findings.filter(({ verdict }) => verdict !== 'handled')).toEqual([]);
    await side.hears('echo 1\necho 2\n');
    side.say('3');
    await side.hears('echo 1\necho 2\necho 3\n');
    await client.seen('1\n2\n3\n');
    expect(await locks()).toEqual([]);
    // And another time.
    await suspend(id);
    await resume(id);
    side.say('4');
    await side.hears('echo 1\necho 2\necho 3\necho 4\n');
    side.socket?.end();
    await client.seen('1\n2\n3\n4\nend\n');
  });

  it('is found reset where the other side has ended meanwhile', async () => {
    const side = await listen();
    const client = await connect(side);
    const { workload: id } = await suspend(client.pid);
    // Its packets do not arrive, so that only a question tells.
    side.socket?.resetAndDestroy();
    await resume(id);
    await client.seen('error Connection reset by peer\n');
  });

  it('is found ended where the other side has hung up meanwhile', async () => {
    const side = await listen();
    const client = await connect(side);
    const { workload: id } = await suspend(client.pid);
    side.say('last');
    side.socket?.end();
    await sleep(200);
    await resume(id);
    await client.seen('last\nend\n');
  });

  it('goes on where one of both has nothing more to say', async () => {
    const [first, second] = [await listen(), await listen()];
    const listening = await connect(first, '127.0.0.1', 'half');
    const told = await connect(second);
    second.socket?.pause();
    const { workload: id } = await suspend(listening.pid);
    second.say('before the end');
    second.socket?.end();
    await told.seen('before the end\nend\n');
    const { workload: other } = await suspend(told.pid);
    await resume(id);
    await resume(other);
    first.say('heard');
    await listening.seen('heard\n');
    first.socket?.end();
    await listening.seen('heard\nend\n');
  });

  it('is closed if the user wants that, and the other side knows it at once', async () => {
    const side = await listen();
    const client = await connect(side);
    const { workload: id, findings } = await suspend(client.pid, '--connections', 'close');
    expect(findings).toContainEqual(expect.objectContaining({ tie: 'internet-socket', verdict: 'degraded' }));
    await vi.waitFor(() => expect(side.socket?.readableEnded || side.closed).toBe(true), soon);
    expect(await locks()).toEqual([]);
    await resume(id);
    await client.seen('end\n');
  });

  it('is closed where this machine has lost the address, and others go on', async () => {
    await using alias = await address('10.99.99.1/32');
    const [here, there] = [await listen(), await listen('10.99.99.1')];
    const path = join(folder, 'both');
    const client = (side: OtherSide, host: string, name: string) =>
      `python3 ${program} ${host} ${side.port} ${path}-${name}`;
    const both = startJob(
      'bash',
      '-c',
      `${client(here, '127.0.0.1', 'here')} & ${client(there, '10.99.99.1', 'there')} & wait`,
    );
    await Promise.all([here.hears('hello\n'), there.hears('hello\n')]);
    const { workload: id } = await suspend(both);
    there.socket?.destroy();
    await alias[Symbol.asyncDispose]();
    const { findings } = await resume(id);
    expect(findings.filter(({ tie }) => tie !== 'clock')).toEqual([
      expect.objectContaining({
        verdict: 'degraded',
        what: expect.stringMatching(
          /^The connection to 10\.99\.99\.1:\d+ could not be kept: this machine does not have the address 10\.99\.99\.1 any more\.$/,
        ),
      }),
    ]);
    await vi.waitFor(async () => expect(await readFile(`${path}-there`, 'utf8')).toBe('end\n'), soon);
    here.say('1');
    await here.hears('hello\necho 1\n');
  });

  it('is given up with its snapshot', async () => {
    const side = await listen();
    const client = await connect(side);
    const snapshot = await suspend(client.pid);
    expect(await locks()).toHaveLength(1);
    await engine.json('rm', snapshot.id);
    expect(await locks()).toEqual([]);
    side.say('anybody there?');
    await vi.waitFor(() => expect(side.closed).toBe(true), soon);
  });

  it('belongs to one only: a copy finds it closed', async () => {
    const side = await listen();
    const client = await connect(side);
    const { workload: id, id: snapshot } = await suspend(client.pid);
    const copy = await resume(snapshot, '--copy');
    ends.push(() => engine.run(['end', copy.id]));
    await client.seen('end\n');
    expect(await locks()).toHaveLength(1);
    await resume(id);
    side.say('1');
    await side.hears('echo 1\n');
  });

  it('goes on between two of its own', async () => {
    const path = join(folder, 'between');
    const script = `import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
served, _ = server.accept()
if os.fork() == 0:
    while line := client.recv(100):
        client.sendall(b"echo " + line)
out = open(sys.argv[1], "w", buffering=1)
import time
for number in range(1000):
    served.sendall(str(number).encode())
    out.write(served.recv(100).decode() + "\\n")
    time.sleep(0.1)
`;
    const job = startJob('python3', '-c', script, path);
    const count = async () => (await readFile(path, 'utf8').catch(() => '')).split('\n').length - 1;
    await vi.waitFor(async () => expect(await count()).toBeGreaterThan(2), soon);
    const { workload: id } = await suspend(job);
    const before = await count();
    await resume(id);
    await vi.waitFor(async () => expect(await count()).toBeGreaterThan(before + 3), soon);
    const lines = (await readFile(path, 'utf8')).trim().split('\n');
    expect(lines).toEqual(lines.map((_line, index) => `echo ${index}`));
  });

  it('goes on between two that are suspended at the same instant', async () => {
    const path = join(folder, 'two');
    const server = `import socket, sys, time
server = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1] + "-port", "w").write(str(server.getsockname()[1]))
served, _ = server.accept()
served.recv(100)
out = open(sys.argv[1], "w", buffering=1)
for number in range(1000):
    served.sendall(b"%d\\n" % number)
    out.write(served.recv(100).decode())
    time.sleep(0.1)
`;
    const first = startJob('python3', '-c', server, path);
    const port = await vi.waitFor(async () => {
      const text = await readFile(`${path}-port`, 'utf8');
      expect(text).toMatch(/^\d+$/);
      return text;
    }, soon);
    const second = startJob('python3', program, '127.0.0.1', port, '/dev/null');
    const count = async () => (await readFile(path, 'utf8').catch(() => '')).split('\n').length - 1;
    await vi.waitFor(async () => expect(await count()).toBeGreaterThan(2), soon);
    const snapshots = await engine.json<Snapshot[]>('suspend', String(first), String(second));
    const ids = snapshots.map(({ workload }) => workload);
    for (const id of ids) ends.push(() => engine.run(['end', id]));
    const before = await count();
    await engine.json('resume', ...ids);
    await vi.waitFor(async () => expect(await count()).toBeGreaterThan(before + 3), soon);
    const lines = (await readFile(path, 'utf8')).trim().split('\n');
    expect(lines).toEqual(lines.map((_line, index) => `echo ${index}`));
    expect(await locks()).toEqual([]);
  });
});

describe('a connection of a capsule', () => {
  it.each([
    ['close', 'end\n'],
    ['keep', '1\n'],
  ])('is treated as the user wants: %s', async (choice, outcome) => {
    const side = await listen();
    const path = join(folder, `capsule-${choice}`);
    const { id } = await engine.start(['python3', program, '127.0.0.1', String(side.port), path]);
    ends.push(() => engine.run(['end', id]));
    await side.hears('hello\n');
    await suspend(id, ...(choice === 'keep' ? ['--connections', 'keep'] : []));
    await resume(id);
    side.say('1');
    await vi.waitFor(async () => expect(await readFile(path, 'utf8')).toBe(outcome), soon);
  });
});

it('anything else is not understood', async () => {
  const error = await engine.failure(2, 'suspend', '--connections', 'perhaps', '1');
  expect(error.message).toContain('"perhaps"');
  expect(error.hint).toContain('keep, close');
});

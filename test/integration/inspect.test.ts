/** The inspection, asked about real processes that hold exactly one tie each. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Finding, Inspection } from '../../api/types.ts';
import { treeBelow } from '../../engine/inspect/proc.ts';
import { killIfThere, TestEngine } from '../support/engine.ts';
import { kernelThread } from '../support/pids.ts';

const program = new URL('../fixtures/ties.py', import.meta.url).pathname;
const children: ChildProcess[] = [];
const servers: Server[] = [];
let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-ties-');
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});
afterEach(() => {
  // With what they started, which would outlive them.
  for (const child of children.splice(0))
    for (const pid of treeBelow(child.pid ?? 0).reverse()) killIfThere(pid);
  for (const server of servers.splice(0)) server.close();
});

/** Starts a process with this tie, away from the test's own terminal. @returns its pid, or why it cannot be had. */
async function hold(kind: string, argument = ''): Promise<number | string> {
  const child = spawn('setsid', ['/usr/bin/python3', program, kind, argument], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let said = '';
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.stdout.once('data', () => resolve(child.pid ?? 0));
    child.once('exit', () => resolve(said));
  });
}

async function findingsOf(pid: number): Promise<Finding[]> {
  const outcome = await engine.run(['inspect', '--json', String(pid)]);
  return (JSON.parse(outcome.stdout) as Inspection).findings;
}

async function listen(at: string | number): Promise<Server> {
  const server = createServer(() => {});
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(at, () => resolve()));
  return server;
}

describe('inspect', () => {
  it('finds nothing that blocks where there is nothing', async () => {
    const findings = await findingsOf(Number(await hold('nothing')));
    expect(findings.filter((finding) => finding.verdict !== 'handled')).toEqual([]);
    expect(findings).toContainEqual(expect.objectContaining({ tie: 'disk', verdict: 'handled' }));
  });

  const device =
    ['/dev/loop-control', '/dev/fuse', '/dev/rtc0', '/dev/kmsg'].find((path) => existsSync(path)) ??
    '/dev/kmsg';
  it.each([
    ['io_uring', '', 'kernel-object', 'blocking', /io_uring/],
    ['deleted', '', 'deleted-file', 'handled', /5000 bytes/],
    ['device', device, 'device', 'blocking', new RegExp(device)],
    ['tcp-listening', '', 'internet-socket', 'handled', /listens at 127\.0\.0\.1:\d+/],
    ['raw', '', 'internet-socket', 'handled', /raw socket/],
    ['packet', '', 'internet-socket', 'handled', /packet socket/],
    ['abstract', 'torpor-test-name', 'abstract-socket', 'degraded', /@torpor-test-name/],
    ['nested', '', 'namespace', 'blocking', /user namespace/],
    ['traced', '', 'tracing', 'blocking', /traced by python3 \(pid \d+\)/],
  ] as const)('%s', async (kind, argument, tie, verdict, words) => {
    const pid = await hold(kind, argument);
    if (typeof pid === 'string') {
      // A kernel without it cannot have the tie either; said rather than passed over.
      console.warn(`${kind}: ${pid}`);
      expect(pid).toMatch(/not to be had/);
      return;
    }
    // A nested user namespace is made by the process itself, so the rule sees it in its child only.
    const findings = kind === 'nested' ? await nestedFindings() : await findingsOf(pid);
    const found = findings.find((finding) => finding.tie === tie);
    expect(found).toMatchObject({ verdict });
    expect(found?.what).toMatch(words);
    expect(found?.what).toMatch(/\(pid \d+\)|deleted/);
    if (verdict === 'blocking') expect(found?.hint).not.toBe('');
  });

  async function nestedFindings(): Promise<Finding[]> {
    // A shell outside of the namespace whose child is inside.
    const child = spawn('setsid', ['sh', '-c', `/usr/bin/python3 ${program} nested; true`], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    children.push(child);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    return findingsOf(child.pid ?? 0);
  }

  it('does not take a memfd for a deleted file', async () => {
    const findings = await findingsOf(Number(await hold('memfd')));
    expect(findings.filter((finding) => finding.verdict === 'blocking')).toEqual([]);
    expect(findings.map((finding) => finding.tie)).not.toContain('deleted-file');
  });

  it('names the other end of a unix socket', async () => {
    const path = join(folder, 'server.sock');
    await listen(path);
    const findings = await findingsOf(Number(await hold('unix-stream', path)));
    const found = findings.find((finding) => finding.tie === 'unix-socket');
    expect(found).toMatchObject({ verdict: 'blocking' });
    expect(found?.what).toContain(`(pid ${process.pid})`);
    expect(found?.what).toContain(path);
  });

  it('names the other end of a connection', async () => {
    const server = await listen(0);
    const { port } = server.address() as { port: number };
    const findings = await findingsOf(Number(await hold('tcp-connected', String(port))));
    expect(findings.find((finding) => finding.tie === 'internet-socket')).toMatchObject({
      verdict: 'handled',
    });
    expect(findings.find((finding) => finding.tie === 'internet-socket')?.what).toContain(
      `127.0.0.1:${port}`,
    );
  });

  it('sees locks', async () => {
    const findings = await findingsOf(Number(await hold('locked', join(folder, 'lock'))));
    expect(findings).toContainEqual(expect.objectContaining({ tie: 'file-lock', verdict: 'handled' }));
  });

  it('names who is at the other end of a pipe', async () => {
    const child = spawn('setsid', ['sleep', '1000'], { stdio: ['pipe', 'ignore', 'ignore'] });
    children.push(child);
    const findings = await findingsOf(child.pid ?? 0);
    // Node's "pipes" are unix sockets; both kinds must be seen and their owner named.
    const blocking = findings.filter((finding) => finding.verdict === 'blocking');
    expect(blocking[0]?.what).toContain(`(pid ${process.pid})`);
  });

  // In a container none of its threads is to be seen.
  it.runIf(kernelThread !== undefined)('refuses a part of the kernel', async () => {
    const error = await engine.failure(3, 'inspect', String(kernelThread));
    expect(error.message).toMatch(/part of the kernel/);
    expect(error.hint).not.toBe('');
  });

  it.each([
    ['1', 3, /init/],
    ['4194304', 4, /no process/],
  ])('refuses pid %s', async (pid, code, words) => {
    const error = await engine.failure(code, 'inspect', pid);
    expect(error.message).toMatch(words);
    expect(error.hint).not.toBe('');
  });

  it('refuses the engine itself', async () => {
    const error = await engine.failure(3, 'suspend', String(await engine.pid()));
    expect(error.message).toMatch(/the engine itself/);
  });

  it('does not suspend what a finding blocks, and says what to do', async () => {
    const pid = Number(await hold('nested'));
    const error = await engine.failure(3, 'suspend', String(pid));
    expect(error.message).toContain('container');
    expect(error.hint).toMatch(/torpor run/);
    expect(() => process.kill(pid, 0)).not.toThrow();
  });

  it('does not show one user what another runs', async () => {
    const pid = Number(await hold('nothing'));
    const outcome = await engine.run(['inspect', '--json', String(pid)], { uid: 65534 });
    expect(outcome.code).toBe(5);
  });

  it('names a command that still runs in a capsule', async () => {
    const workload = await engine.start(['xterm']);
    const running = engine.run(['exec', workload.id, '--', 'sleep', '1000']);
    const inspect = async () =>
      JSON.parse((await engine.run(['inspect', '--json', workload.id])).stdout) as Inspection;
    let found: Finding | undefined;
    for (let round = 0; round < 20 && found === undefined; round++) {
      found = (await inspect()).findings.find((finding) => finding.tie === 'exec');
    }
    expect(found).toMatchObject({ verdict: 'blocking' });
    expect(found?.what).toContain('sleep (pid ');
    const error = await engine.failure(3, 'suspend', workload.id);
    expect(error.message).toContain(found?.what);
    process.kill(Number(/pid (\d+)/.exec(found?.what ?? '')?.[1]), 'SIGKILL');
    await running;
    expect((await inspect()).findings.filter((finding) => finding.verdict === 'blocking')).toEqual([]);
    await engine.json('end', workload.id);
  });

  it('lists processes, memory, files and sockets of a capsule', async () => {
    const workload = await engine.start(['xterm']);
    const inspection = await engine.json<Inspection>('inspect', workload.id);
    expect(inspection.processes.map((process) => process.name)).toEqual(
      expect.arrayContaining(['torpor-init', 'xterm']),
    );
    expect(inspection.memoryBytes).toBeGreaterThan(1024 * 1024);
    expect(inspection.openFiles).toContain('/dev/null');
    expect(inspection.sockets).toContainEqual(expect.stringMatching(/\/tmp\/\.X11-unix\/X\d+/));
    expect(inspection.findings.filter((finding) => finding.verdict === 'blocking')).toEqual([]);
    await engine.json('end', workload.id);
  });
});

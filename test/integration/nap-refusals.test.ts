/** What only its user would miss: a download or an upload under way, and what they have said is never to nap. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { NapPlan } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { makeUser } from '../support/users.ts';

const patient = { timeout: 20_000, interval: 200 };
const started: ChildProcess[] = [];
let engine: TestEngine;
let server: Server;
let connection: Socket | undefined;

beforeEach(async () => {
  engine = await TestEngine.create();
  server = createServer((socket) => {
    connection = socket;
    socket.on('error', () => {}).resume();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  for (const child of started.splice(0)) await end(child);
  connection?.destroy();
  server.close();
  await engine[Symbol.asyncDispose]();
});

/** A program with a connection, that reads or writes for ever, or only waits. */
async function start(does: 'reads' | 'writes' | 'waits', uid?: number): Promise<string> {
  const { port } = server.address() as { port: number };
  const script =
    'import socket, sys, time; s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))\n' +
    'while sys.argv[2] == "reads": s.recv(65536)\n' +
    'while sys.argv[2] == "writes": s.sendall(b"x" * 4096); time.sleep(0.005)\n' +
    'time.sleep(1000)';
  const child = spawn('/usr/bin/python3', ['-c', script, String(port), does], {
    stdio: 'ignore',
    cwd: '/',
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  started.push(child);
  await vi.waitFor(() => expect(connection).toBeDefined(), patient);
  return String(child.pid);
}

async function ties(target: string): Promise<string[]> {
  const { stdout } = await engine.run(['nap', '--json', '--dry-run', target]);
  const { findings } = JSON.parse(stdout) as NapPlan;
  return findings.filter(({ verdict }) => verdict === 'blocking').map(({ tie }) => tie);
}

it.each([
  ['reads', /python3 .* downloads something just now/],
  ['writes', /python3 .* uploads something just now/],
] as const)('is not put to a nap while it %s, unless told so', async (does, sentence) => {
  const target = await start(does);
  const sending = setInterval(() => does === 'reads' && connection?.write(Buffer.alloc(8192)), 20);
  try {
    await vi.waitFor(async () => expect(await ties(target)).toEqual(['transfer']), patient);
    expect((await engine.failure(3, 'nap', target)).message).toMatch(sentence);
    await engine.json('nap', '--anyway', target);
    await engine.json('wake', target);
  } finally {
    clearInterval(sending);
  }
});

it('is put to a nap when nothing goes over its connection', async () => {
  const target = await start('waits');
  expect(await ties(target)).toEqual([]);
  await engine.json('nap', target);
  await engine.json('wake', target);
});

it('is not put to a nap where its user has said never, and others are', async () => {
  await using user = await makeUser('torpor-never', 21526);
  const mine = await start('waits');
  const theirs = await start('waits', user.uid);
  expect(await engine.json('nap', '--never', 'python3')).toEqual({ never: ['python3'] });
  expect(await ties(mine)).toEqual(['excluded']);
  expect((await engine.failure(3, 'nap', mine)).message).toMatch(
    /You have said that python3 is never to nap/,
  );
  expect(await ties(theirs)).toEqual([]);
  // Also for the next engine.
  await engine.kill();
  expect(await ties(mine)).toEqual(['excluded']);
  await engine.json('nap', '--anyway', mine);
  await engine.json('wake', mine);
  expect(await engine.json('nap', '--allow', 'python3')).toEqual({ never: [] });
  expect(await ties(mine)).toEqual([]);
  expect((await engine.failure(2, 'nap', '--never', 'a/b')).message).toMatch(/no name of a program/);
  expect((await engine.failure(2, 'nap')).message).toMatch(/Which one/);
});

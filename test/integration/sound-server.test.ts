/** The sound server of a capsule by itself: what programs say to it, and what nobody should say to it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { numbers } from '../support/numbers.ts';
import { rate, soundTool, tone, until } from '../support/sound.ts';

const program = new URL('../../build/native/torpor-sound', import.meta.url).pathname;
let folder: string;
let server: ChildProcess;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-sound-'));
  server = spawn(program, [join(folder, 'native'), join(folder, 'relay')], { stdio: 'ignore' });
  await until(async () => (await readdir(folder)).includes('relay'), 'it listens');
});
afterEach(async () => {
  if (server.exitCode === null && server.signalCode === null) {
    const ended = once(server, 'exit');
    server.kill();
    await ended;
  }
  await rm(folder, { recursive: true, force: true });
});

function tool(name: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, PULSE_SERVER: `unix:${folder}/native`, LC_ALL: 'C' };
  return spawnSync(soundTool(name), args, { env, encoding: 'utf8', timeout: 30_000 });
}

it('plays to nobody in time where there is no relay, and answers what mixers ask', async () => {
  const file = join(folder, 'tone.raw');
  await writeFile(file, tone(2));
  const startedAt = performance.now();
  const format = ['--raw', '--format=s16le', `--rate=${rate}`, '--channels=2'];
  expect(tool('pacat', ...format, file)).toMatchObject({ status: 0, stderr: '' });
  expect(performance.now() - startedAt).toBeGreaterThan(1900);
  for (const what of ['sinks', 'sources', 'clients', 'sink-inputs', 'source-outputs', 'modules', 'cards'])
    expect(tool('pactl', 'list', what), what).toMatchObject({ status: 0, stderr: '' });
  expect(tool('pactl', 'info').stdout).toContain('Default Sink: torpor');
});

const frame = (payload: Buffer, channel = 0xffff_ffff, offset = 0n, seek = 0) => {
  const header = Buffer.alloc(20);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt32BE(channel, 4);
  header.writeBigInt64BE(offset, 8);
  header.writeUInt32BE(seek, 16);
  return Buffer.concat([header, payload]);
};
const number = (value: number) => {
  const bytes = Buffer.from('L0000');
  bytes.writeUInt32BE(value >>> 0, 1);
  return bytes;
};
const greeting = frame(
  Buffer.concat([
    number(8),
    number(0),
    number(32),
    Buffer.from('x'),
    Buffer.from([0, 0, 1, 0]),
    Buffer.alloc(256),
  ]),
);

/** A stream of two channels with buffers of these sizes. */
const stream = (sizes: readonly number[]) => {
  const text = (value: string) => Buffer.from(value, 'latin1');
  const [maximum = 0, target = 0, prebuffer = 0, request = 0] = sizes;
  return frame(
    Buffer.concat([
      ...[
        number(3),
        number(1),
        text('a\x03\x02\x00\x00\xbb\x80'),
        text('m\x02\x01\x02'),
        number(-1),
        text('N'),
      ],
      ...[number(maximum), text('0'), number(target), number(prebuffer), number(request), number(0)],
      ...[text('v\x02\x00\x01\x00\x00\x00\x01\x00\x00'), text('0000000'), text('01'), text('PN')],
      ...[text('10'), text('000'), text('0'), text('0'), text('B\x00')],
    ]),
  );
};

async function throwAt(path: string, parts: readonly Buffer[]): Promise<void> {
  const socket: Socket = connect(path);
  socket.on('error', () => {});
  // Being thrown out is one of the right answers.
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  await once(socket, 'connect');
  for (const part of parts) if (!socket.destroyed) socket.write(part);
  socket.end();
  await closed;
}

it.each([1, 2, 3])('survives what makes no sense (%i)', async (seed) => {
  const random = numbers(seed);
  const below = (limit: number) => random.next().value % limit;
  const bytes = (length: number) => Buffer.from(Array.from({ length }, () => below(256)));
  const sizes = [0xffff_ffff, 0, 1, 100, 5_000_000];
  const offsets = [0n, 1n, -4n, 100_000n, -(1n << 62n), 1n << 62n, -(1n << 63n), (1n << 63n) - 1n];
  const anything = () =>
    [
      () => stream([0, 0, 0, 0].map(() => sizes[below(sizes.length)] ?? 0)),
      () => frame(bytes(below(5000)), below(3), offsets[below(offsets.length)] ?? 0n, below(5)),
      () =>
        frame(Buffer.concat([number(below(106)), number(below(100)), number(below(3)), bytes(below(20))])),
      () => frame(Buffer.concat([number(below(106)), number(1), number(0), number(below(2) * 0xffff_ffff)])),
    ][below(4)]?.() ?? Buffer.of();
  for (let round = 0; round < 60; round++) {
    const parts = Array.from({ length: 30 }, anything);
    const told = Array.from({ length: 20 }, () => {
      const body = bytes([0, 4, 16, 24, 132][below(5)] ?? 0);
      const header = Buffer.alloc(12);
      for (const [index, value] of [below(22), below(4), body.length].entries())
        header.writeUInt32LE(value, index * 4);
      return Buffer.concat([header, body]);
    });
    await Promise.all([
      throwAt(join(folder, 'native'), below(10) === 0 ? parts : [greeting, ...parts]),
      throwAt(join(folder, 'relay'), told),
    ]);
  }
  await throwAt(join(folder, 'native'), [Buffer.alloc(4, 0xff), Buffer.alloc(100_000, 0xff)]);
  expect([server.exitCode, server.signalCode]).toEqual([null, null]);
  expect(tool('pactl', 'info').status).toBe(0);
});

/** The sound server of a capsule by itself: what programs say to it, and what nobody should say to it. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { rate, soundTool, tone } from '../support/sound.ts';
import { SoundInside } from '../support/sound-inside.ts';
import { frame, greeting, number, stream } from '../support/sound-protocol.ts';

let inside: SoundInside;

beforeEach(async () => {
  inside = await SoundInside.create();
});
afterEach(() => inside[Symbol.asyncDispose]());

function tool(name: string, args: string[], input?: Buffer) {
  const env = { ...process.env, PULSE_SERVER: `unix:${inside.socket}`, LC_ALL: 'C' };
  return spawnSync(soundTool(name), args, { env, input, encoding: 'utf8', timeout: 30_000 });
}

it('plays to nobody in time where there is no relay, and answers what mixers ask', () => {
  const startedAt = performance.now();
  const format = ['--raw', '--format=s16le', `--rate=${rate}`, '--channels=2'];
  expect(tool('pacat', format, tone(2))).toMatchObject({ status: 0, stderr: '' });
  expect(performance.now() - startedAt).toBeGreaterThan(1900);
  for (const what of ['sinks', 'sources', 'clients', 'sink-inputs', 'source-outputs', 'modules', 'cards'])
    expect(tool('pactl', ['list', what]), what).toMatchObject({ status: 0, stderr: '' });
  expect(tool('pactl', ['info']).stdout).toContain('Default Sink: torpor');
});

/** Numbers that are the same in every run: an additive generator (Knuth, The Art of Computer Programming, 3.2.2). */
function* numbers(seed: number): Generator<number, never> {
  const state = Array.from(
    { length: 55 },
    (_, index) => (seed * 7919 + index * index * 104_729 + index) >>> 0,
  );
  for (let at = 0; ; at++) {
    const value = ((state[at % 55] ?? 0) + (state[(at + 31) % 55] ?? 0)) >>> 0;
    state[at % 55] = value;
    yield value;
  }
}

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
  const size = () => sizes[below(sizes.length)] ?? 0;
  const offsets = [0n, 1n, -4n, 100_000n, -(1n << 62n), 1n << 62n, -(1n << 63n), (1n << 63n) - 1n];
  const anything = () =>
    [
      () => stream({ maximum: size(), target: size(), prebuffer: size(), request: size() }),
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
      throwAt(inside.socket, below(10) === 0 ? parts : [greeting, ...parts]),
      throwAt(inside.relaySocket, told),
    ]);
  }
  await throwAt(inside.socket, [Buffer.alloc(4, 0xff), Buffer.alloc(100_000, 0xff)]);
  expect(inside.isThere).toBe(true);
  expect(tool('pactl', ['info']).status).toBe(0);
});

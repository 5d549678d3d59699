/** The sound server of a capsule by itself: what programs say to it, and what nobody should say to it. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { numbers } from '../support/numbers.ts';
import { rate, soundTool, tone } from '../support/sound.ts';
import { SoundInside } from '../support/sound-inside.ts';
import {
  bytesOf,
  command,
  frame,
  greeting,
  name,
  number,
  properties,
  SoundProgram,
  stream,
} from '../support/sound-protocol.ts';

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

it('gives nothing to hear of what is played', async () => {
  using program = await SoundProgram.connect(inside.socket);
  const { number: playing } = await program.play({});
  for (const options of [{ of: playing }, { source: 'torpor.monitor' }, { source: '@DEFAULT_MONITOR@' }])
    await expect(program.record(options), JSON.stringify(options)).rejects.toThrow('error 5');
  await expect(program.record({ source: 'torpor.microphone' })).resolves.toMatchObject({
    number: playing + 1,
  });
});

it('ends a stream that a mixer ends, and what waited for it', async () => {
  using program = await SoundProgram.connect(inside.socket);
  using mixer = await SoundProgram.connect(inside.socket);
  const [played, other, recorded] = [await program.play({}), await program.play({}), await program.record()];
  program.write(played.stream, tone(1));
  program.write(other.stream, tone(1));
  const drained = [played, other].map(({ stream }) => program.ask(command.drain, number(stream)));
  const ended = Promise.all(drained.map((each) => expect(each).rejects.toThrow('error 5')));
  await mixer.ask(command.killSinkInput, number(played.number));
  await mixer.ask(command.killSourceOutput, number(recorded.number));
  await program.ask(command.deletePlayback, number(other.stream));
  await ended;
  expect(program.told.filter(([what]) => what === command.killed)).toEqual([[command.killed, played.stream]]);
  expect(program.told.filter(([what]) => what === command.recordingKilled)).toEqual([
    [command.recordingKilled, recorded.stream],
  ]);
  for (const what of [command.moduleInfo, command.cardInfo])
    await expect(mixer.ask(what, number(0), name(undefined))).rejects.toThrow('error 5');
});

it('keeps no more properties than programs have', async () => {
  using program = await SoundProgram.connect(inside.socket);
  const before = await inside.computed();
  const names = Array.from({ length: 60_000 }, (_, index) => `test.${index}`);
  for (let start = 0; start < names.length; start += 200)
    await program.ask(command.updateProperties, number(2), properties(names.slice(start, start + 200)));
  await program.ask(command.updateProperties, number(2), properties(names));
  // Each compared with each takes it minutes.
  expect((await inside.computed()) - before).toBeLessThan(500);
  expect(tool('pactl', ['list', 'clients']).stdout.match(/test\.\d+/g)?.length).toBeLessThanOrEqual(256);
});

it('takes no volume from outside that is not for the channels of a stream', async () => {
  using program = await SoundProgram.connect(inside.socket);
  const { number: playing } = await program.play({ target: bytesOf(1) });
  const [volume, kind] = [Buffer.alloc(132), Buffer.alloc(12)];
  volume.writeUInt8(1);
  volume.writeUInt32LE(0x8000, 4);
  for (const [index, value] of [6, playing, volume.length].entries()) kind.writeUInt32LE(value, index * 4);
  await throwAt(inside.relaySocket, [Buffer.concat([kind, volume])]);
  expect(tool('pactl', ['list', 'sink-inputs']).stdout).toMatch(
    /Volume: front-left: .*100%.*front-right: .*100%/,
  );
});

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

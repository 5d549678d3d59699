/** Buffers and clocks of single streams, from a program through the capsule's sound server and the relay to the user's. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { tone, UserSound, until } from '../support/sound.ts';
import { SoundInside } from '../support/sound-inside.ts';
import {
  bytesOf,
  command,
  frameBytes,
  type Latency,
  number,
  SoundProgram,
} from '../support/sound-protocol.ts';

/** A program whose sound is heard by a user. */
class Scene implements AsyncDisposable {
  readonly user: UserSound;
  readonly inside: SoundInside;
  readonly program: SoundProgram;

  private constructor(user: UserSound, inside: SoundInside, program: SoundProgram) {
    this.user = user;
    this.inside = inside;
    this.program = program;
  }

  static async create(): Promise<Scene> {
    const user = await UserSound.create();
    await user.start();
    const inside = await SoundInside.create();
    return new Scene(user, inside, await SoundProgram.connect(inside.socket));
  }

  /** Speakers that take up to two seconds ahead and give back what they are not to play, as a sound card's driver does. */
  async takeAhead(): Promise<void> {
    await this.user.pactl('load-module', 'module-null-sink', 'sink_name=ahead');
    await this.user.pactl('set-default-sink', 'ahead');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.program[Symbol.dispose]();
    await this.inside[Symbol.asyncDispose]();
    await this.user[Symbol.asyncDispose]();
  }
}

it('takes all that it has asked for, where a buffer may hold no more than that', async () => {
  await using scene = await Scene.create();
  const { program, inside, user } = scene;
  await inside.relay(user.address);
  const size = bytesOf(0.04);
  const { stream, missing } = await program.play({ maximum: size, target: size, prebuffer: 0 });
  const samples = tone(3);
  let written = 0;
  const isWritten = async () => {
    const end = Math.min(missing + program.requested(stream), samples.length);
    if (end > written) program.write(stream, samples.subarray(written, end));
    written = end;
    return written === samples.length;
  };
  while (!(await isWritten())) await sleep(2);
  await program.ask(command.drain, number(stream));
  expect(program.count(command.overflow)).toBe(0);
  expect((await program.latency(stream)).written).toBe(samples.length);
});

it('counts nothing as heard that nobody has heard, after the sound server has come back', async () => {
  await using scene = await Scene.create();
  const { program, inside, user } = scene;
  const first = await inside.relay(user.address);
  const { stream } = await program.play({ target: bytesOf(2), prebuffer: 0 });
  program.write(stream, tone(4));
  const hears = async () => (await program.latency(stream)).heard > bytesOf(0.5);
  await until(hears, 'some of it is heard');
  await inside.kill(first);
  await until(async () => !(await program.latency(stream)).isPlaying, 'it stands still');
  const { heard: before } = await program.latency(stream);
  const returnedAt = performance.now();
  await inside.relay(user.address);
  for (let heard = before; heard < before + bytesOf(0.5); ) {
    ({ heard } = await program.latency(stream));
    const passed = bytesOf((performance.now() - returnedAt) / 1000);
    // A sound server takes its samples some at a time, and so somewhat ahead.
    expect(heard - before).toBeLessThan(passed + bytesOf(0.2));
  }
});

it('plays again what the device had taken ahead, where it went without a word', async () => {
  await using scene = await Scene.create();
  const { program, inside, user } = scene;
  await scene.takeAhead();
  const relay = await inside.relay(user.address);
  const { stream } = await program.play({ target: bytesOf(2), prebuffer: 0 });
  program.write(stream, tone(8));
  /** Position of what comes out: before that of what has been taken. */
  const out = ({ heard, delayUsec }: Latency) => heard - bytesOf(delayUsec / 1e6);
  let before = await program.latency(stream);
  const isAhead = async () => {
    before = await program.latency(stream);
    return out(before) > bytesOf(0.2) && before.delayUsec > 500_000;
  };
  await until(isAhead, 'the device has taken ahead');
  const askedAt = performance.now();
  await inside.kill(relay);
  let after = before;
  const stands = async () => {
    after = await program.latency(stream);
    return !after.isPlaying;
  };
  await until(stands, 'it stands still');
  const passed = bytesOf((performance.now() - askedAt) / 1000);
  expect(after.heard).toBeGreaterThan(out(before) - bytesOf(0.2));
  expect(after.heard).toBeLessThan(out(before) + passed + bytesOf(0.2));
});

it('does nothing while it pauses at the end of a track', async () => {
  await using scene = await Scene.create();
  const { program, inside, user } = scene;
  await scene.takeAhead();
  await inside.relay(user.address);
  const { stream } = await program.play({ target: bytesOf(2), prebuffer: 0 });
  const samples = tone(1.5);
  program.write(stream, samples);
  let isDrained = false;
  void program.ask(command.drain, number(stream)).then(
    () => {
      isDrained = true;
    },
    () => {},
  );
  let last = await program.latency(stream);
  const isTaken = async () => {
    last = await program.latency(stream);
    return last.heard === samples.length;
  };
  await until(isTaken, 'all is taken');
  await program.cork(stream, true);
  expect(isDrained).toBe(false);
  // Past the moment at which it would have come to its end.
  await sleep(last.delayUsec / 1000 + 500);
  const before = await inside.computed();
  await sleep(2000);
  expect((await inside.computed()) - before).toBeLessThan(20);
  expect(isDrained).toBe(false);
  await program.cork(stream, false);
  // What the device has given back is yet to be heard.
  expect(isDrained).toBe(false);
  await until(async () => isDrained, 'it has come to its end');
});

it('has as much asked for as the user’s sound server needs', async () => {
  await using scene = await Scene.create();
  const { program, inside, user } = scene;
  // Speakers of a fixed size: the user's sound server gives its own programs more than they wish for.
  await user.pactl('load-module', 'module-pipe-sink', 'sink_name=large', `file=${user.folder}/large`);
  await user.pactl('set-default-sink', 'large');
  using outside = await SoundProgram.connect(user.address.replace('unix:', ''));
  const wished = { target: 256 * frameBytes, prebuffer: 0 };
  const { target } = await outside.play(wished);
  expect(target).toBeGreaterThan(wished.target);
  await inside.relay(user.address);
  const { stream, missing } = await program.play(wished);
  await until(async () => missing + program.requested(stream) >= target, 'all of that is asked for');
  const changes = program.told.filter(([what]) => what === command.bufferChanged);
  expect(changes.at(-1)?.slice(0, 4)).toMatchObject([
    command.bufferChanged,
    stream,
    expect.any(Number),
    target,
  ]);
});

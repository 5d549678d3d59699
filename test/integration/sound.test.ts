/** Sound of a capsule on its user's own PulseAudio, through suspends, restarts of that and resumes. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { Finding, Snapshot, Workload } from '../../api/types.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import {
  analyse,
  counted,
  placesIn,
  rate,
  ruler,
  soundTool,
  tone,
  UserSound,
  until,
} from '../support/sound.ts';
import { canCheckpoint } from './criu-fixture.ts';

type Suspended = Snapshot & { findings: Finding[] };
type Resumed = Workload & { findings: Finding[] };

/** At half the volume PulseAudio plays an eighth. */
const half = '50%';
const eighth = 1 / 8;
const seconds = 8;
/** PipeWire's largest by default; it plays what it has been given to the end. */
const buffer = 2048;

/** A user's sound server, and an engine whose user it is. */
class Scene implements AsyncDisposable {
  readonly user: UserSound;
  readonly engine: TestEngine;

  private constructor(user: UserSound, engine: TestEngine) {
    this.user = user;
    this.engine = engine;
  }

  static async create(kind?: 'PulseAudio' | 'PipeWire'): Promise<Scene> {
    const user = await UserSound.create(kind);
    return new Scene(user, await TestEngine.create({ env: user.env }));
  }

  /** Plays the tone inside, and keeps the capsule when that has come to its end. */
  play(...options: string[]): Promise<Workload> {
    return this.playFor(seconds, ...options);
  }

  playFor(length: number, ...options: string[]): Promise<Workload> {
    return this.playSamples(tone(length), ...options);
  }

  async playSamples(samples: Buffer, ...options: string[]): Promise<Workload> {
    const file = await this.user.file('tone.raw', samples);
    const format = ['--raw', '--format=s16le', `--rate=${rate}`, '--channels=2'];
    const pacat = [soundTool('pacat'), ...format, ...options, file].join(' ');
    return this.engine.start(['sh', '-c', `${pacat}; touch ${this.user.folder}/played; exec sleep 1000`]);
  }

  async inside(id: string, ...args: string[]): Promise<string> {
    const { stdout } = await this.engine.run(['exec', id, '--', soundTool('pactl'), ...args]);
    return stdout;
  }

  /** Waits until it can be asked. */
  async answers(id: string): Promise<void> {
    const ask = () => this.engine.run(['exec', id, '--', soundTool('pactl'), 'info']);
    await until(async () => (await ask()).code === 0, 'the sound server inside answers');
  }

  async serversInside(id: string): Promise<number[]> {
    const { pids } = await this.engine.workload(id);
    const named = await Promise.all(
      pids.map(async (pid) => ({ pid, name: await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '') })),
    );
    return named.filter(({ name }) => name.trim() === 'torpor-sound').map(({ pid }) => pid);
  }

  async played(): Promise<void> {
    await until(async () => existsSync(`${this.user.folder}/played`), 'all is played', 60_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    await this.user[Symbol.asyncDispose]();
  }
}

/**
 * Where somebody went without a word, what is known is from a moment before, the later the more the machine has to do: some
 * is played again. No more can be missing than is in the buffer.
 */
function expectAll(length: number): void {
  expect(length).toBeGreaterThan(rate * seconds - rate / 4);
  expect(length).toBeLessThan(rate * (seconds + 1));
}

const percents = ({ volume }: { volume: Record<string, { value_percent: string }> }) =>
  Object.values(volume).map((each) => each.value_percent);

// Side by side, as each has an engine and a sound server of its own, and all are as long as what they play.
describe.skipIf(!canCheckpoint).concurrent('sound', () => {
  it.each([['--latency-msec=200'], []])(
    'goes on from the very sample after a resume on a new sound server %s',
    async (...options) => {
      await using scene = await Scene.create();
      const { user, engine } = scene;
      await user.start();
      const { id } = await scene.play(...options, '--property=application.icon_name=torpor-test');
      const before = await user.sinkInput();
      expect(before.properties).toMatchObject({
        'application.name': 'pacat',
        'application.icon_name': 'torpor-test',
      });
      expect(before.sample_specification).toBe(`s16le 2ch ${rate}Hz`);

      await user.pactl('set-sink-input-volume', String(before.index), half);
      await until(
        async () => (await scene.inside(id, 'list', 'sink-inputs')).includes(` ${half} `),
        'known inside',
      );
      const { findings } = await engine.json<Suspended>('suspend', id);
      expect(findings.filter(({ verdict }) => verdict !== 'handled')).toEqual([]);
      await user.stop();
      const first = await user.heard();
      await user.start();
      expect(await user.sinkInputs()).toEqual([]);

      expect((await engine.json<Resumed>('resume', id)).state).toBe('running');
      const after = await user.sinkInput();
      expect(percents(after)).toEqual([half, half]);
      expect(after).toMatchObject({
        mute: false,
        sample_specification: before.sample_specification,
        channel_map: before.channel_map,
      });
      await scene.played();
      await user.stop();
      const [one, two] = [analyse(first, eighth), analyse(await user.heard(), eighth)];
      expect(two.jumps).toEqual([]);
      expect(two.first).toBe((one.last % counted) + 1);
      expect(one.length + two.length).toBe(rate * seconds);
      expect(two.hertz).toBeCloseTo(440, 0);
    },
  );

  it('goes on within one buffer on PipeWire', async () => {
    await using scene = await Scene.create('PipeWire');
    const { user, engine } = scene;
    await user.start();
    const { id } = await scene.playSamples(ruler(seconds), '--latency-msec=200');
    const before = await user.sinkInput();
    expect(before.properties['application.name']).toBe('pacat');
    await user.pactl('set-sink-input-volume', String(before.index), half);
    await until(
      async () => (await scene.inside(id, 'list', 'sink-inputs')).includes(` ${half} `),
      'known inside',
    );
    await engine.json<Suspended>('suspend', id);
    await user.stop();
    const first = await user.heard();
    await user.start();

    expect((await engine.json<Resumed>('resume', id)).state).toBe('running');
    const after = await user.sinkInput();
    expect(percents(after)).toEqual([half, half]);
    expect(after).toMatchObject({ mute: false, channel_map: before.channel_map });
    await scene.played();
    await user.stop();
    // On a machine with much else to do PipeWire leaves out some on the way; what counts is where it went on.
    const { last } = placesIn(first, eighth);
    const second = await user.heard();
    expect(Math.abs(placesIn(second, eighth).first - last - 1)).toBeLessThanOrEqual(buffer);
    expect(analyse(second).length).toBeGreaterThan(rate);
  });

  it('keeps the device and the muting that the user chose, and follows when that device goes', async () => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    await user.start();
    const { id } = await scene.playFor(seconds * 3, '--latency-msec=200');
    const { index } = await user.sinkInput();
    await user.pactl('move-sink-input', String(index), 'headphones');
    await user.pactl('set-sink-input-mute', String(index), '1');
    const knownInside = async (text: string) =>
      until(async () => (await scene.inside(id, 'list', 'sink-inputs')).includes(text), `${text} inside`);
    await knownInside('Mute: yes');
    const headphones = async () =>
      Number((await user.pactl('list', 'short', 'sinks')).split('\theadphones')[0]?.split('\n').at(-1));
    await engine.json<Suspended>('suspend', id);
    await user.stop();
    await user.start();
    await engine.json<Resumed>('resume', id);

    const after = await user.sinkInput();
    expect(after).toMatchObject({ mute: true, sink: await headphones() });
    await user.pactl('set-sink-input-mute', String(after.index), '0');
    await knownInside('Mute: no');
    const hears = async () => analyse(await user.heard('headphones')).length > rate / 2;
    await until(hears, 'it is heard there');
    const modules = await user.pactl('list', 'short', 'modules');
    const module = /^(\d+)\tmodule-pipe-sink\tsink_name=headphones/m.exec(modules)?.[1] ?? '';
    await user.pactl('unload-module', module);
    await scene.played();
    await user.stop();
    expect(analyse(await user.heard('headphones')).jumps).toEqual([]);
    expect(analyse(await user.heard('speakers')).length).toBeGreaterThan(rate);
  });

  it('goes on from the very sample where the suspend leaves it running', async () => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    await user.start();
    const { id } = await scene.play('--latency-msec=200');
    await user.sinkInput();
    await engine.json<Suspended>('suspend', id, '--leave-running');
    await scene.played();
    await user.stop();
    expect(analyse(await user.heard())).toMatchObject({ jumps: [], length: rate * seconds });
  });

  it('goes on near where it was when the sound server starts anew under it', async () => {
    await using scene = await Scene.create();
    const { user } = scene;
    await user.start();
    await scene.play('--latency-msec=200');
    await user.sinkInput();
    await until(async () => analyse(await user.heard()).length > rate, 'a second is heard');
    await user.stop();
    const one = analyse(await user.heard());
    await user.start();
    await scene.played();
    await user.stop();
    const two = analyse(await user.heard());
    expect(two.jumps).toEqual([]);
    expectAll(one.length + two.length);
  });

  it('is missing without a sound server, which is said once and keeps nothing from going on', async () => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    const { id } = await scene.play();
    await scene.played();
    const { findings } = await engine.json<Suspended>('suspend', id);
    expect(findings.filter(({ tie }) => tie === 'sound')).toMatchObject([
      { verdict: 'handled', what: expect.stringContaining('No sound server answers') },
    ]);
    expect((await engine.json<Resumed>('resume', id)).state).toBe('running');
    await engine.json<Suspended>('suspend', id);
    const log = await readFile(`${user.folder}/state/torpor/audio.log`, 'utf8');
    expect(log.match(/No sound server answers/g)).toHaveLength(1);
  });

  it('does not keep a suspend waiting for a sound server that hangs', async () => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    await user.start();
    const { id } = await scene.play('--latency-msec=200');
    await user.sinkInput();
    user.hang();
    const { findings } = await engine.json<Suspended>('suspend', id);
    expect(findings.filter(({ verdict }) => verdict !== 'handled')).toEqual([]);
    await user.stop();
    const one = analyse(await user.heard());
    await user.start();
    await engine.json<Resumed>('resume', id);
    await scene.played();
    await user.stop();
    const two = analyse(await user.heard());
    expect(two.jumps).toEqual([]);
    expectAll(one.length + two.length);
  });

  it('is there again after the sound server inside has ended', async () => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    await user.start();
    const { id } = await engine.start(['sleep', '1000']);
    await scene.answers(id);
    for (const pid of await scene.serversInside(id)) process.kill(pid, 'SIGKILL');
    await until(async () => (await scene.serversInside(id)).length === 1, 'it is started again');
    await scene.answers(id);
    const file = await user.file('tone.raw', tone(2));
    const pacat = [soundTool('pacat'), '--raw', `--rate=${rate}`, '--channels=2', '--format=s16le', file];
    expect((await engine.run(['exec', id, '--', ...pacat])).code).toBe(0);
    await until(async () => analyse(await user.heard()).length > rate, 'it is heard');
  });

  it('does not keep a suspend waiting for a sound server inside that is stopped', async () => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    await user.start();
    const { id } = await scene.play('--latency-msec=200');
    await user.sinkInput();
    for (const pid of await scene.serversInside(id)) process.kill(pid, 'SIGSTOP');
    await engine.json<Suspended>('suspend', id);
    await engine.json<Resumed>('resume', id);
    await scene.played();
    await user.stop();
    expectAll(analyse(await user.heard()).length);
  });

  it.each([
    ['relay', /torpor-sound-relay/],
    ['plugin', /torpor-audio\.mjs|torpor-sound-relay/],
  ])('does not keep a suspend waiting for a %s that hangs', async (_, program) => {
    await using scene = await Scene.create();
    const { user, engine } = scene;
    await user.start();
    const { id } = await scene.play('--latency-msec=200');
    await user.sinkInput();
    const hanging = await programsOf(user.folder, program);
    expect(hanging.length).toBeGreaterThan(0);
    for (const pid of hanging) process.kill(pid, 'SIGSTOP');
    expect((await engine.run(['suspend', id])).code).toBe(0);
    for (const pid of hanging) if (isThere(pid)) process.kill(pid, 'SIGCONT');
    await engine.json<Resumed>('resume', id);
    await scene.played();
    await user.stop();
    // The tone was heard on for as long as the server outside had some of it.
    const heard = analyse(await user.heard());
    expect(heard.jumps.length).toBeLessThanOrEqual(1);
    expectAll(heard.length);
  });
});

/** Processes whose session is that of a user, by what they were started as. */
async function programsOf(folder: string, program: RegExp): Promise<number[]> {
  const pids: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const command = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '');
    const environment = await readFile(`/proc/${entry}/environ`, 'utf8').catch(() => '');
    if (program.test(command) && environment.includes(`XDG_RUNTIME_DIR=${folder}\0`))
      pids.push(Number(entry));
  }
  return pids;
}

/** The microphone: the user is asked on the desktop, by a real notification daemon, before anything is heard. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Snapshot, Workload } from '../../api/types.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { analyse, rate, soundTool, tone, UserSound, until } from '../support/sound.ts';
import { canCheckpoint } from './criu-fixture.ts';

const run = promisify(execFile);

/** A desktop with a sound server, a notification daemon, and an engine. */
class Desktop implements AsyncDisposable {
  readonly user: UserSound;
  readonly engine: TestEngine;
  readonly #display: TestDisplay;
  readonly #children: ChildProcess[] = [];

  private constructor(user: UserSound, engine: TestEngine, display: TestDisplay) {
    this.user = user;
    this.engine = engine;
    this.#display = display;
  }

  static async create(): Promise<Desktop> {
    const user = await UserSound.create();
    const display = await TestDisplay.start();
    await user.start();
    const desktop = new Desktop(user, await TestEngine.create({ env: user.env }), display);
    // The menu of actions is shown by another program, which here is the user's finger.
    const finger = await user.file('finger', `#!/bin/sh\nexec grep -f ${user.folder}/choice\n`);
    await chmod(finger, 0o755);
    const settings = await user.file('dunstrc', `[global]\ndmenu = ${finger}\n`);
    desktop.#children.push(
      spawn('dunst', ['-conf', settings], { env: desktop.#env, stdio: 'ignore', cwd: user.folder }),
    );
    await until(
      async () => (await desktop.questions().catch(() => -1)) === 0,
      'the notification daemon is there',
    );
    return desktop;
  }

  get #env(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      DISPLAY: this.#display.name,
      DBUS_SESSION_BUS_ADDRESS: this.user.bus,
      HOME: this.user.folder,
    };
  }

  async #dunst(...args: string[]): Promise<string> {
    const { stdout } = await run('dunstctl', args, { env: this.#env });
    return stdout.trim();
  }

  /** How many are on the screen. */
  async questions(): Promise<number> {
    return Number(await this.#dunst('count', 'displayed'));
  }

  async choose(answer: 'Allow' | 'Deny'): Promise<void> {
    await until(async () => (await this.questions()) === 1, 'a question is asked');
    await this.user.file('choice', answer);
    await this.#dunst('context');
    await until(async () => (await this.questions()) === 0, 'the question has gone');
  }

  /** Plays the tone outside, to a microphone that hears what the speakers play. */
  async makeNoise(): Promise<void> {
    await this.user.pactl('set-default-source', 'speakers.monitor');
    const file = await this.user.file('noise.raw', tone(60));
    const args = ['--raw', '--format=s16le', `--rate=${rate}`, '--channels=2', '--latency-msec=100', file];
    const env = { ...process.env, PULSE_SERVER: this.user.address };
    this.#children.push(spawn(soundTool('pacat'), args, { env, stdio: 'ignore' }));
  }

  /** Another recording of the same name is by the same application. */
  record(name: string): Promise<Workload> {
    const file = join(this.user.folder, `${name}.raw`);
    const parec = `${soundTool('parec')} --raw --format=s16le --rate=${rate} --channels=2 --latency-msec=100`;
    return this.engine.start(['sh', '-c', `exec ${parec} > ${file}`]);
  }

  recorded(name: string): Promise<Buffer> {
    return readFile(join(this.user.folder, `${name}.raw`));
  }

  async recordings(): Promise<{ properties: Record<string, string> }[]> {
    return JSON.parse(await this.user.pactl('--format=json', 'list', 'source-outputs'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    for (const child of this.#children) await end(child, 'SIGTERM');
    await this.#display[Symbol.asyncDispose]();
    await this.user[Symbol.asyncDispose]();
  }
}

describe.skipIf(!canCheckpoint)('the microphone', () => {
  it('is heard by an application once the user has allowed it, and after a resume without another question', async () => {
    await using desktop = await Desktop.create();
    const { engine } = desktop;
    await desktop.makeNoise();
    const { id } = await desktop.record('allowed');
    const hasSilence = async () => (await desktop.recorded('allowed')).length > rate;
    await until(hasSilence, 'silence is recorded meanwhile');
    expect(await desktop.recordings()).toEqual([]);
    expect(analyse(await desktop.recorded('allowed')).length).toBe(0);

    await desktop.choose('Allow');
    const hears = async (seconds: number) =>
      analyse(await desktop.recorded('allowed')).length > rate * seconds;
    await until(() => hears(1), 'the noise is recorded');
    expect((await desktop.recordings())[0]?.properties['application.name']).toBe('parec');

    await engine.json<Snapshot>('suspend', id);
    expect(await desktop.recordings()).toEqual([]);
    const before = analyse(await desktop.recorded('allowed')).length / rate;
    await engine.json<Workload>('resume', id);
    await until(() => hears(before + 1), 'the noise is recorded again');
    expect(await desktop.questions()).toBe(0);
  });

  it('is recorded without a gap, before a suspend and after it, also on a sound server that was started anew', async () => {
    await using desktop = await Desktop.create();
    const { engine, user } = desktop;
    await desktop.makeNoise();
    const { id } = await desktop.record('kept');
    await desktop.choose('Allow');
    const heardSince = async (start: number) => analyse((await desktop.recorded('kept')).subarray(start));
    await until(async () => (await heardSince(0)).length > rate * 2, 'the noise is recorded');
    await engine.json<Snapshot>('suspend', id);
    const before = await heardSince(0);
    const seam = (await desktop.recorded('kept')).length;
    await user.stop();
    await user.start();
    await desktop.makeNoise();
    await engine.json<Workload>('resume', id);
    await until(async () => (await heardSince(seam)).length > rate * 2, 'the noise is recorded again');
    const whole = await heardSince(0);
    // On a busy machine the sound server itself leaves out a piece now and then.
    expect(before.jumps.length).toBeLessThanOrEqual(1);
    // Where it stood still, and the noise began anew; what was not fetched yet before comes first.
    expect(whole.jumps.length).toBeLessThanOrEqual(before.jumps.length + 2);
    for (const { hertz } of [before, whole]) expect(hertz).toBeCloseTo(440, 0);
  });

  it('is silent for an application that the user has denied it, now and later', async () => {
    await using desktop = await Desktop.create();
    const { engine, user } = desktop;
    await desktop.makeNoise();
    const { id } = await desktop.record('denied');
    await desktop.choose('Deny');
    const consents = () =>
      readFile(join(user.folder, 'config/torpor/microphone.json'), 'utf8').catch(() => '');
    await until(async () => (await consents()) !== '', 'the answer is remembered');
    expect(Object.values(JSON.parse(await consents()).applications)).toEqual(['no']);
    await engine.json<Workload>('end', id);
    await desktop.record('denied');
    const length = async () => (await desktop.recorded('denied').catch(() => Buffer.of())).length;
    await until(async () => (await length()) > rate * 4, 'a second is recorded');
    expect(analyse(await desktop.recorded('denied')).length).toBe(0);
    expect(await desktop.recordings()).toEqual([]);
    expect(await desktop.questions()).toBe(0);
  });

  it('is not asked for any more when the application has ended', async () => {
    await using desktop = await Desktop.create();
    const { engine } = desktop;
    const { id } = await desktop.record('ended');
    await until(async () => (await desktop.questions()) === 1, 'a question is asked');
    await engine.json<Workload>('end', id);
    await until(async () => (await desktop.questions()) === 0, 'the question has gone');
  });
});

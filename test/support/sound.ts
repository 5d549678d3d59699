/**
 * A user's sound server of a test's own, with speakers that write down what is heard and a microphone that says nothing,
 * and a tone by which every sample can be told from every other nearby.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const prefix = new URL('../../build/sound/usr', import.meta.url).pathname;
/** Tools to be used inside of capsules, too: they need no library that is not installed. */
export const soundTool = (name: string) => join(prefix, 'bin', name);

export const rate = 48_000;
/** Values of the right channel go from 1 to this, in steps that are still whole at half the volume. */
export const counted = 4095;
const step = 8;

/** Left a tone of 440 Hz, right a counter. Stereo, 16 bit, {@link rate}. */
export function tone(seconds: number): Buffer {
  const samples = new Int16Array(rate * seconds * 2);
  for (let index = 0; index < rate * seconds; index++) {
    samples[index * 2] = Math.round(20_000 * Math.sin((2 * Math.PI * 440 * index) / rate));
    samples[index * 2 + 1] = ((index % counted) + 1) * step;
  }
  return Buffer.from(samples.buffer);
}

export interface Heard {
  /** Samples of the counter that are not silence. */
  length: number;
  /** First and last value of the counter. */
  first: number;
  last: number;
  /** Where it does not go on with the next value: the values before and after. */
  jumps: [number, number][];
  /** Of the left channel, by how often it crosses zero. */
  hertz: number;
}

/** What there is in a recording. @param factor by which the volume has made it softer. */
export function analyse(recording: Buffer, factor = 1): Heard {
  const samples = new Int16Array(
    recording.buffer.slice(
      recording.byteOffset,
      recording.byteOffset + recording.length - (recording.length % 4),
    ),
  );
  const heard: Heard = { length: 0, first: 0, last: 0, jumps: [], hertz: 0 };
  let crossings = 0;
  let sign = 0;
  for (let index = 1; index < samples.length; index += 2) {
    const value = Math.round((samples[index] ?? 0) / (step * factor));
    if (value === 0) continue;
    if (heard.length === 0) heard.first = value;
    else if (value !== (heard.last % counted) + 1) heard.jumps.push([heard.last, value]);
    heard.last = value;
    heard.length++;
    const now = Math.sign(samples[index - 1] ?? 0);
    if (now !== 0 && sign !== 0 && now !== sign) crossings++;
    if (now !== 0) sign = now;
  }
  heard.hertz = heard.length === 0 ? 0 : (crossings / 2 / heard.length) * rate;
  return heard;
}

export interface SinkInput {
  index: number;
  mute: boolean;
  volume: Record<string, { value: number; value_percent: string }>;
  sample_specification: string;
  channel_map: string;
  sink: number;
  corked: boolean;
  properties: Record<string, string>;
}

/** PulseAudio, run privately. */
export class UserSound implements AsyncDisposable {
  readonly folder: string;
  #server: ChildProcess | undefined;
  #recorders: ChildProcess[] = [];
  #recording = 0;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Nothing is started yet. */
  static async create(): Promise<UserSound> {
    return new UserSound(await mkdtemp('/var/tmp/torpor-sound-'));
  }

  get address(): string {
    return `unix:${join(this.folder, 'native')}`;
  }

  /** For the engine: the user's session. */
  get env(): Record<string, string> {
    return {
      PULSE_SERVER: this.address,
      XDG_RUNTIME_DIR: this.folder,
      XDG_CONFIG_HOME: join(this.folder, 'config'),
      XDG_STATE_HOME: join(this.folder, 'state'),
      DBUS_SESSION_BUS_ADDRESS: `unix:path=${join(this.folder, 'bus')}`,
    };
  }

  /**
   * Starts it with no state of an earlier one, and has its speakers recorded. They are a pipe, which plays what it is
   * given once and for all, as a sound card does.
   */
  async start(): Promise<void> {
    const home = await mkdtemp(join(this.folder, 'home-'));
    const libraries = join(prefix, 'lib/x86_64-linux-gnu');
    const modules = join(
      prefix,
      'lib',
      (await readdir(join(prefix, 'lib'))).find((name) => name.startsWith('pulse-')) ?? '',
      'modules',
    );
    const speakers = (name: string) =>
      `module-pipe-sink sink_name=${name} file=${join(home, name)} format=s16le rate=${rate} channels=2 use_system_clock_for_timing=yes`;
    const loaded = [
      `module-native-protocol-unix socket=${join(this.folder, 'native')} auth-anonymous=1`,
      speakers('speakers'),
      speakers('headphones'),
      'module-null-source source_name=mic',
    ];
    this.#server = spawn(
      soundTool('pulseaudio'),
      [
        ...['-n', '--daemonize=no', '--use-pid-file=no', '--exit-idle-time=-1', '--disable-shm'],
        ...['--realtime=no', '--high-priority=no', '--log-level=error', '-p', modules],
        ...loaded.flatMap((module) => ['-L', module]),
      ],
      {
        env: {
          PATH: process.env.PATH,
          HOME: home,
          XDG_RUNTIME_DIR: home,
          LD_LIBRARY_PATH: [libraries, join(libraries, 'pulseaudio'), modules].join(':'),
        },
        stdio: 'ignore',
      },
    );
    await until(async () => (await this.pactl('info').catch(() => '')) !== '', 'the sound server answers');
    await this.pactl('set-default-sink', 'speakers');
    await mkdir(this.folder, { recursive: true });
    this.#recording++;
    for (const name of ['speakers', 'headphones']) {
      this.#recorders.push(
        spawn('sh', ['-c', 'exec cat "$1" > "$2"', 'sh', join(home, name), this.#file(name)], {
          stdio: 'ignore',
        }),
      );
    }
    // What is played before anybody listens stays in the pipe, but the first of silence shows that it runs.
    await until(
      async () => (await readFile(this.#file('speakers')).catch(() => '')).length > 0,
      'the speakers run',
    );
  }

  #file(device: string): string {
    return join(this.folder, `${device}-${this.#recording}.raw`);
  }

  /** What was played since the last start. */
  heard(device = 'speakers'): Promise<Buffer> {
    return readFile(this.#file(device));
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await end(server, signal);
    // What is still in the pipe is read; then it has ended.
    for (const recorder of this.#recorders.splice(0)) {
      await Promise.race([once(recorder, 'exit'), sleep(2000)]);
      await end(recorder, 'SIGTERM');
    }
  }

  /** Holds it still, as one that hangs. */
  hang(): void {
    this.#server?.kill('SIGSTOP');
  }

  async pactl(...args: string[]): Promise<string> {
    const { stdout } = await run(soundTool('pactl'), args, {
      env: { ...process.env, PULSE_SERVER: this.address, LC_ALL: 'C' },
      timeout: 10_000,
    });
    return stdout;
  }

  async sinkInputs(): Promise<SinkInput[]> {
    const text = await this.pactl('--format=json', 'list', 'sink-inputs');
    return JSON.parse(text || '[]') as SinkInput[];
  }

  /** The first stream that a capsule plays. */
  async sinkInput(): Promise<SinkInput> {
    let found: SinkInput | undefined;
    await until(async () => {
      found = (await this.sinkInputs())[0];
      return found !== undefined;
    }, 'a stream is in the mixer');
    if (found === undefined) throw new Error('no stream is in the mixer');
    return found;
  }

  async file(name: string, contents: Buffer | string): Promise<string> {
    const path = join(this.folder, name);
    await writeFile(path, contents);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.kill('SIGCONT');
    await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

export async function until(
  condition: () => Promise<boolean>,
  what: string,
  limitMs = 30_000,
): Promise<void> {
  for (const limit = Date.now() + limitMs; !(await condition()); await sleep(50)) {
    if (Date.now() > limit) throw new Error(`it did not come to this: ${what}`);
  }
}

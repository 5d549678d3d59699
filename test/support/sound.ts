/**
 * A user's sound server of a test's own, with speakers that write down what is heard and a microphone that says nothing,
 * and a tone by which every sample can be told from every other nearby.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { end } from './programs.ts';

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

/** Has no divisor in common with the other, so that the two together repeat only after minutes. */
const countedLeft = 4093;

/** A counter on either side: it tells the place of each sample, also where some before it are missing. */
export function ruler(seconds: number): Buffer {
  const samples = new Int16Array(rate * seconds * 2);
  for (let index = 0; index < rate * seconds; index++) {
    samples[index * 2] = ((index % countedLeft) + 1) * step;
    samples[index * 2 + 1] = ((index % counted) + 1) * step;
  }
  return Buffer.from(samples.buffer);
}

/** The places of the first and the last sample of a {@link ruler} in a recording. @param factor see {@link analyse}. */
export function placesIn(recording: Buffer, factor = 1): { first: number; last: number } {
  const at = (offset: number) => Math.round(recording.readInt16LE(offset) / (step * factor));
  const place = (offset: number) => {
    const [left, right] = [at(offset) - 1, at(offset + 2) - 1];
    for (let found = right; found < counted * countedLeft; found += counted)
      if (found % countedLeft === left) return found;
    return Number.NaN;
  };
  let start = 0;
  let end = recording.length - (recording.length % 4) - 4;
  while (start < end && at(start) === 0) start += 4;
  while (end > start && at(end) === 0) end -= 4;
  return { first: place(start), last: place(end) };
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

/** What a sound server is started with. */
interface Launch {
  /** A folder of its own, empty. */
  home: string;
  /** Its socket. */
  socket: string;
  /** A bus, for those that need one. */
  bus: string;
  start: (program: string, args: string[], env: Record<string, string>) => void;
}

interface Server {
  launch: (launch: Launch) => Promise<void>;
  /** Makes devices, as far as that has not been done. */
  prepare: (pactl: (...args: string[]) => Promise<string>) => Promise<void>;
  /** The command that writes down what a device plays. */
  recorder: (device: string, home: string) => string[];
}

const architecture = 'lib/x86_64-linux-gnu';
const libraries = join(prefix, architecture);
/** What a desktop program has brought onto this machine is not unpacked a second time. */
const unpackedOrInstalled = (path: string) =>
  [prefix, '/usr'].map((root) => join(root, path)).find((found) => existsSync(found)) ?? '';
const spec = [`--rate=${rate}`, '--channels=2', '--format=s16le'];

/** Its speakers are a pipe, which plays what it is given once and for all, as a sound card does. */
const pulseAudio: Server = {
  launch: async ({ home, socket, start }) => {
    const versions = await readdir(join(prefix, 'lib'));
    const modules = join(prefix, 'lib', versions.find((name) => name.startsWith('pulse-')) ?? '', 'modules');
    const speakers = (name: string) =>
      `module-pipe-sink sink_name=${name} file=${join(home, name)} format=s16le rate=${rate} channels=2 use_system_clock_for_timing=yes`;
    const loaded = [
      `module-native-protocol-unix socket=${socket} auth-anonymous=1`,
      speakers('speakers'),
      speakers('headphones'),
      'module-null-source source_name=mic',
    ];
    start(
      'pulseaudio',
      [
        ...['-n', '--daemonize=no', '--use-pid-file=no', '--exit-idle-time=-1', '--disable-shm'],
        ...['--realtime=no', '--high-priority=no', '--log-level=error', '-p', modules],
        ...loaded.flatMap((module) => ['-L', module]),
      ],
      { LD_LIBRARY_PATH: [libraries, join(libraries, 'pulseaudio'), modules].join(':') },
    );
  },
  prepare: async (pactl) => {
    await pactl('set-default-sink', 'speakers');
  },
  recorder: (device, home) => ['cat', join(home, device)],
};

/** PipeWire with its own server of PulseAudio's protocol, and what connects streams with devices. */
const pipeWire: Server = {
  launch: async ({ home, socket, bus, start }) => {
    const [own, policy] = [join(home, 'pipewire'), join(home, 'wireplumber')];
    await cp(join(prefix, 'share/pipewire'), own, { recursive: true });
    await cp(join(prefix, 'share/wireplumber'), policy, { recursive: true });
    const settings = join(own, 'pipewire-pulse.conf');
    const text = await readFile(settings, 'utf8');
    await writeFile(settings, text.replace('"unix:native"', `"unix:${socket}"`));
    const env = {
      LD_LIBRARY_PATH: libraries,
      DBUS_SESSION_BUS_ADDRESS: bus,
      PIPEWIRE_RUNTIME_DIR: home,
      PIPEWIRE_CONFIG_DIR: own,
      PIPEWIRE_MODULE_DIR: unpackedOrInstalled(join(architecture, 'pipewire-0.3')),
      SPA_PLUGIN_DIR: unpackedOrInstalled(join(architecture, 'spa-0.2')),
      SPA_DATA_DIR: unpackedOrInstalled('share/spa-0.2'),
      WIREPLUMBER_CONFIG_DIR: policy,
      WIREPLUMBER_DATA_DIR: policy,
      WIREPLUMBER_MODULE_DIR: unpackedOrInstalled(join(architecture, 'wireplumber-0.4')),
    };
    start('pipewire', [], env);
    const listening = async () => (await readdir(home)).includes('pipewire-0');
    await until(listening, 'PipeWire listens');
    start('wireplumber', ['-c', join(policy, 'wireplumber.conf')], env);
    start('pipewire-pulse', [], env);
  },
  prepare: async (pactl) => {
    for (const name of ['speakers', 'headphones'])
      await pactl('load-module', 'module-null-sink', `sink_name=${name}`, `rate=${rate}`, 'channels=2');
    const microphone = ['module-null-sink', 'sink_name=mic', 'media.class=Audio/Source/Virtual'];
    await pactl('load-module', ...microphone);
    // Refused until the session manager is there.
    const chosen = () =>
      pactl('set-default-sink', 'speakers').then(
        () => true,
        () => false,
      );
    await until(chosen, 'the session manager is there');
  },
  recorder: (device) => [
    soundTool('parec'),
    '--raw',
    ...spec,
    '--latency-msec=20',
    '-d',
    `${device}.monitor`,
  ],
};

const servers = { PulseAudio: pulseAudio, PipeWire: pipeWire };

export class UserSound implements AsyncDisposable {
  readonly folder: string;
  readonly #kind: keyof typeof servers;
  readonly #bus: ChildProcess;
  #servers: ChildProcess[] = [];
  #recorders: ChildProcess[] = [];
  #recording = 0;

  private constructor(folder: string, kind: keyof typeof servers, bus: ChildProcess) {
    this.folder = folder;
    this.#kind = kind;
    this.#bus = bus;
  }

  /** Starts a session bus, but no sound server yet. */
  static async create(kind: keyof typeof servers = 'PulseAudio'): Promise<UserSound> {
    const folder = await mkdtemp('/var/tmp/torpor-sound-');
    const config = join(folder, 'bus.conf');
    // Without the machine's service folders, so that nothing is started that the test did not start.
    await writeFile(
      config,
      `<busconfig><type>session</type><listen>unix:path=${folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
    );
    const bus = spawn('dbus-daemon', ['--nofork', `--config-file=${config}`], { stdio: 'ignore' });
    await until(async () => (await readdir(folder)).includes('bus'), 'the session bus is there');
    return new UserSound(folder, kind, bus);
  }

  get address(): string {
    return `unix:${join(this.folder, 'native')}`;
  }

  get bus(): string {
    return `unix:path=${join(this.folder, 'bus')}`;
  }

  /** For the engine: the user's session. */
  get env(): Record<string, string> {
    return {
      PULSE_SERVER: this.address,
      XDG_RUNTIME_DIR: this.folder,
      XDG_CONFIG_HOME: join(this.folder, 'config'),
      XDG_STATE_HOME: join(this.folder, 'state'),
      DBUS_SESSION_BUS_ADDRESS: this.bus,
    };
  }

  /** Starts it with no state of an earlier one, and has its speakers recorded. */
  async start(): Promise<void> {
    const home = await mkdtemp(join(this.folder, 'home-'));
    const server = servers[this.#kind];
    await server.launch({
      home,
      socket: join(this.folder, 'native'),
      bus: this.bus,
      start: (program, args, env) => {
        const own = { PATH: process.env.PATH, HOME: home, XDG_RUNTIME_DIR: home, ...env };
        this.#servers.push(spawn(soundTool(program), args, { env: own, stdio: 'ignore' }));
      },
    });
    await until(async () => (await this.pactl('info').catch(() => '')) !== '', 'the sound server answers');
    await server.prepare((...args) => this.pactl(...args));
    this.#recording++;
    for (const device of ['speakers', 'headphones']) {
      const command = ['exec "$@" > "$0"', this.#file(device), ...server.recorder(device, home)];
      const env = { ...process.env, PULSE_SERVER: this.address };
      this.#recorders.push(spawn('sh', ['-c', ...command], { env, stdio: 'ignore' }));
    }
    const hears = async () => (await this.heard().catch(() => Buffer.of())).length > rate;
    // Silence, which shows that whatever comes next is written down.
    await until(hears, 'the speakers run');
  }

  #file(device: string): string {
    return join(this.folder, `${device}-${this.#recording}.raw`);
  }

  /** What was played since the last start. */
  heard(device = 'speakers'): Promise<Buffer> {
    return readFile(this.#file(device));
  }

  /** Ends it, as a crash does or as an orderly end of a session. */
  async stop(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    for (const server of this.#servers.splice(0).reverse()) await end(server, signal);
    // What is still in a pipe is read; then it has ended.
    for (const recorder of this.#recorders.splice(0)) {
      await Promise.race([recorder.exitCode === null ? once(recorder, 'exit') : undefined, sleep(2000)]);
      await end(recorder, 'SIGTERM');
    }
  }

  /** Ends one of its programs alone, in order. */
  async stopProgram(name: string): Promise<void> {
    const server = this.#servers.find(({ spawnfile }) => spawnfile === soundTool(name));
    if (server === undefined) throw new Error(`there is no ${name}`);
    this.#servers = this.#servers.filter((each) => each !== server);
    await end(server, 'SIGTERM');
  }

  /** Holds it still, as one that hangs. */
  hang(): void {
    for (const server of this.#servers) server.kill('SIGSTOP');
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
    for (const server of this.#servers) server.kill('SIGCONT');
    await this.stop();
    await end(this.#bus, 'SIGTERM');
    await rm(this.folder, { recursive: true, force: true });
  }
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

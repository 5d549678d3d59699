/**
 * The relay by itself, between a sound server that is real and a capsule that is not: whoever is inside may listen at the
 * relay's socket and say what nobody should.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, symlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { numbers } from '../support/numbers.ts';
import { end } from '../support/programs.ts';
import { analyse, rate, soundTool, tone, UserSound, until } from '../support/sound.ts';

const built = (name: string) => new URL(`../../build/native/${name}`, import.meta.url).pathname;
const [program, soundServer] = [built('torpor-sound-relay'), built('torpor-sound')];
const seconds = 8;

/** As in native/sound/sound.h. */
const kinds = { open: 1, close: 2, samples: 3, flush: 5, properties: 8, rate: 9, sizes: 10 } as const;
const told = { wanted: 11, refused: 14, again: 15, live: 18 } as const;

const message = (kind: number, stream: number, body = Buffer.of()) => {
  const header = Buffer.alloc(12);
  for (const [index, value] of [kind, stream, body.length].entries()) header.writeUInt32LE(value, index * 4);
  return Buffer.concat([header, body]);
};

interface Opening {
  version?: number;
  client?: number;
  recording?: boolean;
  start?: bigint;
  rate?: number;
  format?: number;
  channels?: number;
  mapped?: number;
  volume?: number;
  device?: string;
  properties?: Record<string, string>;
}

/** Two channels of 16 bit that play, where nothing else is said. */
const opening = (stream: number, options: Opening = {}) => {
  const { version = 1, client = 1, recording = false, start = 0n, format = 3, channels = 2 } = options;
  const body = Buffer.alloc(488);
  body.writeUInt32LE(version, 0);
  body.writeUInt32LE(client, 4);
  body.writeUInt8(Number(recording), 12);
  body.writeBigInt64LE(start, 24);
  body.writeUInt32LE(options.rate ?? rate, 32);
  body.writeUInt8(format, 36);
  body.writeUInt8(channels, 37);
  body.writeUInt8(options.mapped ?? channels, 40);
  for (let index = 0; index < 32; index++) body.writeUInt8(index, 41 + index);
  body.writeUInt8(options.volume ?? channels, 76);
  for (let index = 0; index < 5; index++) body.writeUInt32LE(0xffff_ffff, 208 + index * 4);
  body.write(options.device ?? '', 228);
  const properties = Object.entries(options.properties ?? {}).flat();
  return message(
    kinds.open,
    stream,
    Buffer.concat([body, ...properties.map((text) => Buffer.from(`${text}\0`))]),
  );
};

const samples = (stream: number, position: bigint, data: Buffer, epoch = 0) => {
  const head = Buffer.alloc(16);
  head.writeBigInt64LE(position, 0);
  head.writeUInt32LE(epoch, 8);
  return message(kinds.samples, stream, Buffer.concat([head, data]));
};

interface Told {
  kind: number;
  stream: number;
  body: Buffer;
}

let user: UserSound;
let folder: string;
let inside: Server | undefined;
let relay: ChildProcess;
let events: Record<string, unknown>[];
let children: ChildProcess[];

async function startUser(kind?: 'PulseAudio' | 'PipeWire'): Promise<void> {
  user = await UserSound.create(kind);
  await user.start();
  folder = join(user.folder, 'inside');
  await mkdir(folder);
}

beforeEach(() => {
  children = [];
  inside = undefined;
});
afterEach(async () => {
  for (const child of children.reverse()) await end(child);
  inside?.close();
  await user?.[Symbol.asyncDispose]();
});

const isAlive = (child: ChildProcess) => child.exitCode === null && child.signalCode === null;

async function listen(path = join(folder, 'relay')): Promise<Server> {
  inside = createServer();
  inside.listen(path);
  await once(inside, 'listening');
  return inside;
}

function startRelay(): void {
  // What is used after it was freed has another value then.
  const env = { ...process.env, ...user.env, MALLOC_PERTURB_: '165' };
  relay = spawn(program, [join(folder, 'relay'), 'Test', ''], {
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(relay);
  events = [];
  if (relay.stdout)
    createInterface({ input: relay.stdout }).on('line', (line) => events.push(JSON.parse(line)));
}

const tell = (line: string) => relay.stdin?.write(`${line}\n`);

/** The relay's connection, with what it tells. */
class Link {
  readonly socket: Socket;
  readonly told: Told[] = [];
  #rest = Buffer.of();

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (data) => {
      this.#rest = Buffer.concat([this.#rest, data]);
      while (this.#rest.length >= 12 && this.#rest.length >= 12 + this.#rest.readUInt32LE(8)) {
        const end = 12 + this.#rest.readUInt32LE(8);
        const [kind, stream] = [this.#rest.readUInt32LE(0), this.#rest.readUInt32LE(4)];
        this.told.push({ kind, stream, body: this.#rest.subarray(12, end) });
        this.#rest = this.#rest.subarray(end);
      }
    });
  }

  static async accept(server: Server): Promise<Link> {
    const [socket] = await once(server, 'connection');
    return new Link(socket);
  }

  say(...messages: Buffer[]): void {
    this.socket.write(Buffer.concat(messages));
  }

  has(kind: number, stream: number): boolean {
    return this.told.some((each) => each.kind === kind && each.stream === stream);
  }

  hears(kind: number, stream: number): Promise<void> {
    return until(async () => this.has(kind, stream), `message ${kind} about ${stream}`);
  }
}

async function start(): Promise<Link> {
  await startUser();
  const link = Link.accept(await listen());
  startRelay();
  return link;
}

it.each<[string, Opening]>([
  ['more channels in its map than there can be', { mapped: 255 }],
  ['more channels than there can be', { channels: 33, mapped: 2, volume: 2 }],
  ['more volumes than there can be', { volume: 255 }],
  ['a format that is none', { format: 200 }],
  ['no rate', { rate: 0 }],
  ['a position before its beginning', { start: -1n }],
  ['a position beyond all', { start: (1n << 63n) - 1n }],
  ['another version', { version: 2 }],
])('refuses a stream with %s, and goes on', async (_, options) => {
  const link = await start();
  link.say(opening(1), opening(2, options));
  await link.hears(told.refused, 2);
  expect(link.has(told.refused, 1)).toBe(false);
  link.say(opening(3));
  await link.hears(told.wanted, 3);
  expect(isAlive(relay)).toBe(true);
});

it.each([1, 2, 3])('survives what makes no sense (%i)', async (seed) => {
  const random = numbers(seed);
  const below = (limit: number) => random.next().value % limit;
  const bytes = (length: number) => Buffer.from(Array.from({ length }, () => below(256)));
  const positions = [0n, 4n, 7n, 100_000n, -1n, 1n << 60n, -(1n << 63n), (1n << 63n) - 1n];
  const position = () => positions[below(positions.length)] ?? 0n;
  /** One in twenty is out of bounds. */
  const oddly = (limit: number) => (below(20) === 0 ? 255 : below(limit));
  const anything = () =>
    [
      (channels: number) =>
        opening(below(5), {
          client: below(3),
          recording: below(4) === 0,
          start: below(4) === 0 ? position() : 0n,
          format: oddly(13),
          channels,
          mapped: below(20) === 0 ? 255 : channels,
          volume: below(20) === 0 ? 255 : channels,
          device: ['', 'speakers', '\xff\xff', 'a'.repeat(256)][below(4)] ?? '',
          properties: { 'media.name': bytes(below(30)).toString('latin1'), '': 'x' },
        }),
      () => samples(below(5), position(), bytes(below(2000)), below(3)),
      () => message(below(22), below(5), bytes([0, 4, 16, 20, 24, 132, 488, 600][below(8)] ?? 0)),
    ][below(3)]?.(oddly(9)) ?? Buffer.of();
  let link = await start();
  for (let round = 0; round < 40; round++) {
    link.say(...Array.from({ length: 40 }, anything));
    for (let stream = 0; stream < 5; stream++) tell(`microphone ${stream} yes`);
    await sleep(below(30));
    if (below(10) !== 0) continue;
    const next = Link.accept(inside as Server);
    const ended = once(link.socket, 'close');
    // Longer than a message can be, so that the relay lets go.
    link.say(Buffer.alloc(12, 0xff));
    await ended;
    link = await next;
  }
  link.socket.destroy();
  link = await Link.accept(inside as Server);
  link.say(opening(1));
  await link.hears(told.wanted, 1);
  expect(isAlive(relay)).toBe(true);
});

it('survives a capsule that goes while its streams are halted for a suspend', async () => {
  const link = await start();
  link.say(opening(1), opening(2), opening(3, { client: 2 }));
  for (const stream of [1, 2, 3]) await link.hears(told.wanted, stream);
  for (const stream of [1, 2, 3]) link.say(samples(stream, 0n, Buffer.alloc(rate)));
  await until(async () => link.told.some(({ kind }) => kind === 12), 'they are heard');
  user.hang();
  tell('suspend');
  // It waits half a second for the halt, and then for an answer about the time.
  await sleep(600);
  link.say(message(kinds.close, 2));
  link.socket.destroy();
  await until(
    async () => events.some(({ event }) => event === 'suspended') || !isAlive(relay),
    'it has suspended',
  );
  expect([relay.exitCode, relay.signalCode]).toEqual([null, null]);
});

it('carries no more clients than leave the user some of the connections that a server takes, and the others later', async () => {
  const link = await start();
  const clients = async () => (await user.pactl('list', 'short', 'clients')).trim().split('\n').length;
  for (let number = 1; number <= 100; number++) link.say(opening(number, { client: number }));
  await link.hears(told.refused, 100);
  await link.hears(told.wanted, 1);
  expect(await clients()).toBeLessThan(25);
  // Of those that are carried one goes, so there is room.
  const refused = new Set(link.told.filter(({ kind }) => kind === told.refused).map(({ stream }) => stream));
  expect(refused.size).toBeLessThan(100);
  link.say(message(kinds.close, 1));
  await link.hears(told.again, 100);
  link.say(opening(100, { client: 100 }));
  await link.hears(told.wanted, 100);
});

it('carries no more streams than there can be sense in', async () => {
  const link = await start();
  for (let number = 1; number <= 300; number++) link.say(opening(number));
  await link.hears(told.refused, 300);
  await link.hears(told.wanted, 1);
  expect((await user.sinkInputs()).length).toBeLessThanOrEqual(64);
});

it('takes from a capsule only as much as the sound server takes from it', async () => {
  const link = await start();
  link.say(opening(1));
  await link.hears(told.wanted, 1);
  user.hang();
  const resident = async () => {
    const status = await readFile(`/proc/${relay.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  };
  const part = Buffer.alloc(60_000);
  for (let at = 0; at < 4000; at++) link.say(samples(1, BigInt(at * part.length), part));
  // Until it takes no more, whether that is all or not.
  let left = -1;
  await until(async () => {
    const before = left;
    left = link.socket.writableLength;
    await sleep(500);
    return left === 0 || left === before;
  }, 'it takes no more');
  expect(await resident()).toBeLessThan(100_000_000);
  expect(isAlive(relay)).toBe(true);
});

it('passes on of properties what the mixer shows, and nothing that a server obeys', async () => {
  const link = await start();
  const shown = { 'application.name': 'Player', 'media.name': 'Song', 'media.role': 'music' };
  const obeyed = {
    'application.process.id': '1',
    'media.class': 'Audio/Source',
    'module-stream-restore.id': 'sink-input-by-media-role:phone',
    'node.target': 'speakers',
    'stream.capture.sink': 'true',
    'target.object': 'speakers',
    'window.x11.display': ':0',
  };
  link.say(opening(1, { properties: { ...obeyed, ...shown } }));
  await link.hears(told.wanted, 1);
  const { properties } = await user.sinkInput();
  expect(properties).toMatchObject(shown);
  for (const [name, value] of Object.entries(obeyed)) expect(properties[name], name).not.toBe(value);
});

it.each(['speakers.monitor', '@DEFAULT_MONITOR@', 'index of a monitor'])(
  'lets nobody record what the speakers play, by whichever name: %s',
  async (name) => {
    const link = await start();
    await user.pactl('set-default-source', 'mic');
    const sources = await user.pactl('list', 'short', 'sources');
    const monitor = /^(\d+)\tspeakers\.monitor\t/m.exec(sources)?.[1] ?? '';
    const mic = Number(/^(\d+)\tmic\t/m.exec(sources)?.[1]);
    link.say(opening(1, { recording: true, device: name.startsWith('index') ? monitor : name }));
    await until(async () => events.some(({ event }) => event === 'asks-microphone'), 'it asks');
    tell('microphone 1 yes');
    await link.hears(told.live, 1);
    const recordings = JSON.parse(await user.pactl('--format=json', 'list', 'source-outputs'));
    expect(recordings).toMatchObject([{ source: mic }]);
  },
);

it('records from the microphone that the user has chosen for it', async () => {
  const link = await start();
  await user.pactl('load-module', 'module-null-source', 'source_name=other');
  await user.pactl('set-default-source', 'mic');
  link.say(opening(1, { recording: true, device: 'other' }));
  await until(async () => events.some(({ event }) => event === 'asks-microphone'), 'it asks');
  tell('microphone 1 yes');
  await link.hears(told.live, 1);
  const sources = await user.pactl('list', 'short', 'sources');
  const recordings = JSON.parse(await user.pactl('--format=json', 'list', 'source-outputs'));
  expect(recordings).toMatchObject([{ source: Number(/^(\d+)\tother\t/m.exec(sources)?.[1]) }]);
});

it('connects to what is a socket there, and not to where a link leads', async () => {
  await startUser();
  let connections = 0;
  const other = createServer(() => connections++);
  other.listen(join(folder, 'other'));
  await once(other, 'listening');
  await symlink(join(folder, 'other'), join(folder, 'relay'));
  startRelay();
  await until(async () => (await user.pactl('list', 'clients')).includes('"Torpor"'), 'it has a server');
  await sleep(1500);
  await rm(join(folder, 'relay'));
  const link = await Link.accept(await listen());
  other.close();
  expect(connections).toBe(0);
  link.say(opening(1));
  await link.hears(told.wanted, 1);
});

it('does not wait for a capsule that takes no connections', async () => {
  await startUser();
  const path = join(folder, 'relay');
  const server = spawn(soundServer, [join(folder, 'native'), path], { stdio: 'inherit' });
  children.push(server);
  await until(async () => existsSync(path), 'the capsule has a sound server');
  server.kill('SIGSTOP');
  const waiting = Array.from({ length: 40 }, () => connect(path).on('error', () => {}));
  startRelay();
  await until(async () => (await user.pactl('list', 'clients')).includes('"Torpor"'), 'it has a server');
  await sleep(1500);
  tell('suspend');
  await until(async () => events.some(({ event }) => event === 'suspended'), 'it has suspended');
  for (const socket of waiting) socket.destroy();
});

/** Plays the tone by the real server of a capsule, through the relay. */
async function play(): Promise<ChildProcess> {
  const native = join(folder, 'native');
  children.push(spawn(soundServer, [native, join(folder, 'relay')], { stdio: 'inherit' }));
  await until(async () => existsSync(join(folder, 'relay')), 'the capsule has a sound server');
  startRelay();
  const file = await user.file('tone.raw', tone(seconds));
  const args = ['--raw', '--format=s16le', `--rate=${rate}`, '--channels=2', '--latency-msec=200', file];
  const env = { ...process.env, PULSE_SERVER: `unix:${native}` };
  const player = spawn(soundTool('pacat'), args, { env, stdio: 'inherit' });
  children.push(player);
  await until(async () => analyse(await user.heard()).length > rate, 'a second is heard');
  return player;
}

const played = (player: ChildProcess) => until(async () => !isAlive(player), 'all is played', 60_000);

it.each<[string, 'PulseAudio' | 'PipeWire', () => Promise<void>]>([
  ['PulseAudio ends', 'PulseAudio', () => user.stop('SIGTERM')],
  ['PipeWire ends', 'PipeWire', () => user.stop('SIGTERM')],
  [
    'PipeWire ends before its server of the protocol of PulseAudio',
    'PipeWire',
    async () => {
      await user.stopProgram('pipewire');
      await sleep(3000);
      await user.stop('SIGTERM');
    },
  ],
])('goes on with the next sound server when %s in order', async (_, kind, end) => {
  await startUser(kind);
  const player = await play();
  await end();
  const one = analyse(await user.heard());
  await user.start();
  await played(player);
  expect(player.exitCode).toBe(0);
  await user.stop();
  const two = analyse(await user.heard());
  expect(one.length).toBeGreaterThan(rate);
  expect(two.length).toBeGreaterThan(rate);
  expect(Math.abs(one.length + two.length - rate * seconds)).toBeLessThan(rate);
});

it('ends a stream that the user has ended in the mixer', async () => {
  await startUser();
  const player = await play();
  const { index } = await user.sinkInput();
  const commands = join(user.folder, 'commands');
  await user.pactl('load-module', 'module-cli-protocol-unix', `socket=${commands}`);
  connect(commands).end(`kill-sink-input ${index}\n`);
  await played(player);
  expect(player.exitCode).toBe(1);
  expect(await user.sinkInputs()).toEqual([]);
});

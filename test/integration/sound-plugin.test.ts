/** The audio plugin without an engine: relays of several capsules, and what is asked about the microphone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Consents } from '../../plugins/audio/consents.ts';
import { type Capsule, Sound } from '../../plugins/audio/sound.ts';
import { end } from '../support/programs.ts';
import { analyse, rate, soundTool, tone, UserSound, until } from '../support/sound.ts';

const built = (name: string) => new URL(`../../build/native/${name}`, import.meta.url).pathname;
const seconds = 6;
let user: UserSound;
let children: ChildProcess[];
let sounds: Sound[];
let said: string[];
let asked: { name: string; callOff: AbortSignal; answer: (allowed: boolean | undefined) => void }[];

beforeEach(async () => {
  children = [];
  sounds = [];
  said = [];
  asked = [];
  user = await UserSound.create();
  vi.stubEnv('PULSE_SERVER', user.address);
});
afterEach(async () => {
  for (const sound of sounds) await sound.end();
  for (const child of children.reverse()) await end(child);
  vi.unstubAllEnvs();
  await user[Symbol.asyncDispose]();
});

const isAlive = (child: ChildProcess) => child.exitCode === null && child.signalCode === null;

/** The plugin of a user who answers when the test does. */
function startPlugin(): Sound {
  const sound = new Sound({
    program: built('torpor-sound-relay'),
    suspendLimitMs: 3000,
    consents: new Consents(user.env),
    ask: (name, callOff) => new Promise((answer) => asked.push({ name, callOff, answer })),
    log: (sentence) => said.push(sentence),
  });
  sounds.push(sound);
  return sound;
}

async function startCapsule(id: string): Promise<Capsule> {
  const folder = join(user.folder, id);
  await mkdir(folder);
  const socket = join(folder, 'relay');
  children.push(spawn(built('torpor-sound'), [join(folder, 'native'), socket], { stdio: 'inherit' }));
  await until(async () => existsSync(socket), 'the capsule has a sound server');
  return { id, name: id, command: [id], socket };
}

function runInside({ id }: Capsule, tool: string, ...args: string[]): ChildProcess {
  const env = { ...process.env, PULSE_SERVER: `unix:${join(user.folder, id, 'native')}` };
  const format = ['--raw', '--format=s16le', `--rate=${rate}`, '--channels=2', '--latency-msec=200'];
  const child = spawn(soundTool(tool), [...format, ...args], { env, stdio: 'ignore' });
  children.push(child);
  return child;
}

async function relayOf({ socket }: Capsule): Promise<number | undefined> {
  for (const pid of await readdir('/proc')) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (command.startsWith(`${built('torpor-sound-relay')}\0${socket}\0`)) return Number(pid);
  }
  return undefined;
}

const isConnected = (capsule: Capsule) =>
  until(async () => {
    const listed = await user.pactl('list', 'clients');
    return listed.includes('"Torpor"') && (await relayOf(capsule)) !== undefined;
  }, 'its relay is there');

it('goes on from the very sample when it has ended and is started again', async () => {
  await user.start();
  const capsule = await startCapsule('one');
  const sound = startPlugin();
  await sound.carry(capsule);
  await isConnected(capsule);
  const player = runInside(capsule, 'pacat', await user.file('tone.raw', tone(seconds)));
  await until(async () => analyse(await user.heard()).length > rate, 'a second is heard');
  await sound.end();
  expect(await relayOf(capsule)).toBeUndefined();
  await startPlugin().carry(capsule);
  await until(async () => !isAlive(player), 'all is played', 60_000);
  await user.stop();
  expect(analyse(await user.heard())).toMatchObject({ jumps: [], length: rate * seconds });
});

it('tells of a relay that has ended only where it is the own one, and as long as it is', async () => {
  await user.start();
  const [one, other] = [await startCapsule('one'), await startCapsule('other')];
  const sound = startPlugin();
  for (const capsule of [one, other]) {
    await sound.carry(capsule);
    await isConnected(capsule);
  }
  const pid = await relayOf(one);
  process.kill(pid ?? 0, 'SIGKILL');
  await until(async () => sound.findings(one.id).length > 0, 'it is known');
  expect(sound.findings(one.id)).toMatchObject([{ what: expect.stringContaining('has ended (SIGKILL)') }]);
  expect(sound.findings(other.id)).toEqual([]);
  await sound.forget(one.id);
  expect(sound.findings(one.id)).toEqual([]);
  expect(said).toEqual([expect.stringContaining('the sound of one has ended')]);
});

it('says once for all capsules that there is no sound server, and that there is one', async () => {
  const [one, other] = [await startCapsule('one'), await startCapsule('other')];
  const sound = startPlugin();
  for (const capsule of [one, other]) await sound.carry(capsule);
  const found = (count: number) =>
    until(
      async () => [one, other].flatMap(({ id }) => sound.findings(id)).length === count,
      `${count} findings`,
    );
  await found(2);
  expect(said).toEqual([expect.stringContaining('No sound server answers')]);
  await user.start();
  await found(0);
  expect(said.slice(1)).toEqual(['The sound server answers again.']);
});

it('asks once where there is no answer, however often an application begins to record', async () => {
  await user.start();
  const capsule = await startCapsule('one');
  const sound = startPlugin();
  await sound.carry(capsule);
  const record = async (times: number) => {
    const file = join(user.folder, 'recorded.raw');
    const recorder = runInside(capsule, 'parec', file);
    await until(async () => (await readFile(file).catch(() => '')).length > rate, `it records (${times})`);
    recorder.kill('SIGKILL');
    await once(recorder, 'exit');
  };
  const recording = record(1);
  await until(async () => asked.length === 1, 'it asks');
  asked[0]?.answer(undefined);
  await recording;
  await record(2);
  await record(3);
  expect(asked).toHaveLength(1);
  expect(said).toEqual([expect.stringContaining('nobody has answered')]);

  // It is another run.
  await sound.suspend(capsule.id);
  await sound.forget(capsule.id);
  await sound.resume(capsule);
  runInside(capsule, 'parec', join(user.folder, 'again.raw'));
  await until(async () => asked.length === 2, 'it asks again');
  expect(asked[1]?.callOff.aborted).toBe(false);
  await sound.forget(capsule.id);
  expect(asked[1]?.callOff.aborted).toBe(true);
  asked[1]?.answer(undefined);
});

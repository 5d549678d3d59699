/**
 * A key with Torpor itself on it, at another machine: one of another release, with other libraries, without Torpor, X server
 * or Node (test/support/other-machine.ts). And home again.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { connectRfb } from '../../api/rfb/client.ts';
import { comparePictures, type Picture } from '../../api/rfb/picture.ts';
import type { ExportResult, ImportResult, Workload } from '../../api/types.ts';
import { type Outcome, TestEngine } from '../support/engine.ts';
import { OtherMachine } from '../support/other-machine.ts';
import { waitForStableScreen } from '../support/screen.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { type Application, applications } from './applications.ts';

/** GIMP with an unsaved picture, and where all applications are tried Firefox with a page, by what they are called here. */
const travellers = new Map(
  ['GIMP', ...(process.env.TORPOR_TEST_APPS === 'all' ? ['Firefox'] : [])].map((name) => {
    const found = applications.find((each) => each.name.startsWith(name));
    if (found === undefined) throw new Error(`there is no application ${name}`);
    return [name.toLowerCase(), found];
  }),
);
const passphrase = 'correct horse battery staple';
const waiting = { timeout: 15_000, interval: 50 };
const there = '/var/lib/torpor-engine/torpor';
const bundle = '/media/key/session';
const counting = 'i=0; while :; do i=$((i+1)); echo $i > $HOME/count; sleep 0.1; done';

let carol: TestUser;
let home: TestEngine;
let key: string;
let machine: OtherMachine;

beforeAll(async () => {
  carol = await makeUser('torpor-carol', 21503);
  home = await TestEngine.create();
  key = await mkdtemp('/var/tmp/torpor-key-');
  // As a desktop mounts what is plugged in, and more: nothing there can be started.
  machine = await OtherMachine.start(key, 'rw,nosuid,nodev,noexec');
});
afterAll(async () => {
  for (const each of [machine, home, carol]) await each?.[Symbol.asyncDispose]();
  if (key !== undefined) await rm(key, { recursive: true, force: true });
});

function expectDone(outcome: Outcome): string {
  expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 0 });
  return outcome.stdout;
}

const atHome = async <T>(command: string, ...args: string[]): Promise<T> =>
  JSON.parse(expectDone(await home.run([command, '--json', ...args], { input: `${passphrase}\n` }))) as T;
const away = async <T>(command: string, ...args: string[]): Promise<T> =>
  JSON.parse(
    expectDone(await machine.run([there, command, '--json', ...args], { input: `${passphrase}\n` })),
  ) as T;
const inside = async (id: string, ...command: string[]): Promise<string> =>
  expectDone(await machine.run([there, 'exec', id, '--', ...command])).trim();

/** What a system consists of; Torpor's own folders are none of it. */
const systemOf = async (): Promise<string> =>
  machine.output(['sh', '-c', 'find /etc /usr /root /home /srv -xdev -type f | sort | xargs sha256sum']);

let workload: Workload;
/** A scroll bar takes its time to fade. */
const look = (screen: string) => waitForStableScreen(screen, { settleMs: 1500 });

/** Some draw once more when they run again, when the rest of their memory comes. */
const expectScreen = (screen: string, picture: Picture) =>
  vi.waitFor(
    async () => {
      const shown = await look(screen);
      expect(comparePictures(picture, shown)).toMatchObject({ equal: true });
      return shown;
    },
    { timeout: 30_000, interval: 200 },
  );

/** Nothing blinks or fades by itself. */
const settings =
  '[Settings]\ngtk-cursor-blink=false\ngtk-enable-animations=false\ngtk-overlay-scrolling=false\n';

/** What the screens of the travellers show. */
const pictures = new Map<string, Picture>();
let left: number;
let system: string;

/** Does something in it that is never saved. @returns what its screen shows then */
async function use(name: string, application: Application): Promise<Picture> {
  const folder = join(carol.home, name);
  await mkdir(join(folder, '.config', 'gtk-3.0'), { recursive: true });
  await writeFile(join(folder, '.config', 'gtk-3.0', 'settings.ini'), settings);
  await writeFile(join(folder, '.gtkrc-2.0'), 'gtk-cursor-blink = 0\n');
  await application.prepare?.(folder);
  execFileSync('chown', ['-R', `${carol.name}:`, folder]);
  const { screen = '' } = await atHome<Workload>(
    'run',
    ...[
      '--name',
      name,
      '--user',
      carol.name,
      '--env',
      `HOME=${folder}`,
      '--',
      ...application.command(folder),
    ],
  );
  await vi.waitFor(
    async () => expect(JSON.stringify(await home.json('windows', name))).toMatch(/white|Page/),
    { timeout: 60_000, interval: 200 },
  );
  await waitForStableScreen(screen, { settleMs: 1500, timeoutMs: 60_000 });
  {
    await using client = await connectRfb(screen, { timeoutMs: 10_000 });
    await application.act(client);
  }
  return await look(screen);
}

it('is written with Torpor itself beside it', async () => {
  await writeFile(join(carol.home, 'letter'), 'dear\n');
  await chown(join(carol.home, 'letter'), carol.uid, carol.uid);
  const env = ['--env', 'SHELL=/bin/sh', '--env', `HOME=${carol.home}`];
  const session = `tmux -S /tmp/panes -f /dev/null new-session -d '${counting}'`;
  const panes = `${session} \\; split-window vim -n ${carol.home}/letter && exec tmux -S /tmp/panes attach`;
  workload = await atHome<Workload>(
    'run',
    ...['--name', 'terminal', '--user', carol.name, ...env, '--', 'xterm', '-e', 'sh', '-c', panes],
  );
  const count = async () => Number(await readFile(join(carol.home, 'count'), 'utf8'));
  await vi.waitFor(async () => expect(await count()).toBeGreaterThan(3), waiting);
  const inTmux = async (...words: string[]) =>
    expectDone(await home.run(['exec', workload.id, '--', 'tmux', '-S', '/tmp/panes', ...words]));
  // It is in the editor's memory only.
  await inTmux('send-keys', '-t', '0.1', 'Go', 'sir');
  const shown = async () => inTmux('capture-pane', '-p', '-t', '0.1');
  await vi.waitFor(async () => expect(await shown()).toMatch(/^dear\nsir/), waiting);
  for (const [name, application] of travellers) pictures.set(name, await use(name, application));
  const options = ['--with-engine', '--with', carol.home];
  const result = await atHome<ExportResult>(
    'export',
    ...[...options, 'terminal', ...travellers.keys(), join(key, 'session')],
  );
  expect(result.findings.filter(({ verdict }) => verdict !== 'handled')).toEqual([]);
  left = await count();
  expect((await stat(join(key, 'session/resume'))).mode & 0o777).toBe(0o755);
  expect(await readFile(join(carol.home, 'letter'), 'utf8')).toBe('dear\n');
});

it('is resumed by one command on a machine that has nothing of it', async () => {
  system = await systemOf();
  const wrong = await machine.run(['sh', `${bundle}/resume`], { input: 'wrong\n' });
  expect(wrong.code).not.toBe(0);
  expect(wrong.stderr).toMatch(/passphrase/);
  const outcome = await machine.run(['sh', `${bundle}/resume`, '--user', 'guest'], {
    input: `${passphrase}\n`,
  });
  expect(expectDone(outcome)).toMatch(/terminal.*\n[\s\S]*To take it home again/);
  const all = await away<Workload[]>('ps');
  expect(all.map(({ name }) => name).sort()).toEqual([...travellers.keys(), 'terminal'].sort());
  for (const each of all) expect(each).toMatchObject({ state: 'running', user: 'guest' });
  workload = all.find(({ name }) => name === 'terminal') as Workload;
  expect(await inside(workload.id, 'id', '-u')).toBe('1777');
  await vi.waitFor(
    async () => expect(Number(await inside(workload.id, 'cat', `${carol.home}/count`))).toBeGreaterThan(left),
    waiting,
  );
});

it('shows there what was done and not saved, and goes on', async () => {
  const all = await away<Workload[]>('ps');
  for (const [name, application] of travellers) {
    const socket = machine.pathOf(all.find((each) => each.name === name)?.screen ?? '');
    const shown = await expectScreen(socket, pictures.get(name) as Picture);
    await using screen = await connectRfb(socket, { timeoutMs: 10_000 });
    await application.actAgain(screen);
    const changed = await look(socket);
    expect(comparePictures(shown, changed)).toMatchObject({ equal: false });
    pictures.set(name, changed);
  }
});

it('changes nothing of that machine', async () => {
  expect(await systemOf()).toBe(system);
});

it('comes home with what was done there', async () => {
  const socket = machine.pathOf(`/run/torpor/capsules/${workload.id}/screen/rfb`);
  {
    await using screen = await connectRfb(socket, { timeoutMs: 10_000 });
    // The rest of the sentence that was begun at home.
    await screen.type(' yours');
    await screen.press('Escape');
    await screen.type(':w\n');
  }
  const letter = `${carol.home}/letter`;
  await vi.waitFor(
    async () => expect(await inside(workload.id, 'cat', letter)).toBe('dear\nsir yours'),
    waiting,
  );
  const result = await away<ExportResult>('export', 'terminal', ...travellers.keys(), bundle);
  expect(result).toMatchObject({ generation: 2 });
  const imported = await atHome<ImportResult>('import', '--resume', join(key, 'session'));
  expect(imported).toMatchObject({ isHome: true });
  expect(imported.documents).toContainEqual({ path: letter, outcome: 'written' });
  expect(readFileSync(letter, 'utf8')).toBe('dear\nsir yours\n');
  const count = () => Number(readFileSync(join(carol.home, 'count'), 'utf8'));
  const brought = count();
  expect(brought).toBeGreaterThan(left);
  const countNow = async () =>
    Number(expectDone(await home.run(['exec', 'terminal', '--', 'cat', join(carol.home, 'count')])));
  await vi.waitFor(async () => expect(await countNow()).toBeGreaterThan(brought), waiting);
  const all = await home.json<Workload[]>('ps');
  for (const [name, picture] of pictures) {
    const { screen = '' } = all.find((each) => each.name === name) as Workload;
    await expectScreen(screen, picture);
  }
  // Where it has a program of the other machine in memory, as its `sleep`, what it writes is apart until it has ended.
  await home.json('end', 'terminal');
  await vi.waitFor(() => expect(count()).toBeGreaterThan(brought), waiting);
});

it('is refused by plain words where it cannot be', async () => {
  await chmod(join(key, 'session'), 0o755);
  await chmod(key, 0o755);
  const byGuest = await machine.run(['sh', `${bundle}/resume`], { user: 'guest' });
  expect(byGuest).toMatchObject({ code: 1, stderr: expect.stringMatching(/root.*\n.*sudo/) });
  const archive = join(key, 'session/engine.tar.gz');
  const bytes = await readFile(archive);
  const sum = createHash('sha256').update(bytes).digest('hex');
  expect(await readFile(join(key, 'session/resume'), 'utf8')).toContain(sum);
  await using bare = await OtherMachine.start(key);
  bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
  await writeFile(archive, bytes);
  expect(await bare.run(['sh', `${bundle}/resume`])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/engine\.tar\.gz.*damaged/),
  });
  const path = join(key, 'one.torpor');
  const asFile = await home.run(['export', '--with-engine', 'terminal', path], { input: `${passphrase}\n` });
  expect(asFile).toMatchObject({ code: 2 });
  expect(asFile.stderr).toMatch(/one\.torpor is one file/);
});

/** What a suspend leaves on disk is of no use to whoever has the disk and not the key. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { EncryptionStatus, Snapshot, VerifyResult, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

const run = promisify(execFile);
const passphrase = 'three words more';

/** Known strings of its memory, of a file that has no name any more, of its environment, and of its arguments. */
const secrets = {
  memory: 'the-secret-of-its-memory',
  ghost: 'the-secret-of-its-deleted-file',
  document: 'the-secret-of-its-document',
};

/** Strings are put together here, so that the program itself does not have them. */
const program = `
import hashlib, os, sys, time
folder = sys.argv[1]
part = lambda word: ('the-secret-of-' + word).encode()
memory = bytearray(part('its-memory') * 4096) + bytearray(os.urandom(64 << 20))
expected = hashlib.sha256(memory).hexdigest()
document = open(folder + '/document')
text = document.read()
ghost = open(folder + '/ghost', 'w+b')
ghost.write(part('its-deleted-file') * 10000)
ghost.flush()
os.unlink(folder + '/ghost')
with open(folder + '/ready', 'w') as file: file.write('ready')
number = 1
while True:
    time.sleep(0.02)
    if not os.path.exists(f'{folder}/ask-{number}'): continue
    ghost.seek(0)
    right = hashlib.sha256(memory).hexdigest() == expected and ghost.read() == part('its-deleted-file') * 10000
    with open(f'{folder}/new', 'w') as file: file.write('right' if right else 'wrong')
    os.rename(f'{folder}/new', f'{folder}/answer-{number}')
    number += 1
`;

let engine: TestEngine;
let folder: string;
let asked: number;

beforeEach(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-secret-');
  asked = 0;
  await mkdir(join(folder, 'home'));
  await writeFile(join(folder, 'document'), secrets.document.repeat(100));
  await writeFile(join(folder, 'program.py'), program);
});
afterEach(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function start(): Promise<string> {
  const { id } = await engine.start(['python3', join(folder, 'program.py'), folder], '--name', 'app');
  await expect.poll(() => existsSync(join(folder, 'ready')), { timeout: 30_000 }).toBe(true);
  return id;
}

async function isRight(): Promise<void> {
  const number = ++asked;
  await writeFile(join(folder, `ask-${number}`), '');
  const answer = join(folder, `answer-${number}`);
  await expect.poll(() => existsSync(answer), { timeout: 30_000 }).toBe(true);
  expect(await readFile(answer, 'utf8')).toBe('right');
}

async function encryption(action: string, input = ''): Promise<EncryptionStatus> {
  const outcome = await engine.run(['encryption', '--json', action], { input });
  expect(outcome.stdout + outcome.stderr).not.toContain(passphrase);
  if (outcome.code !== 0) throw new Error(`${outcome.stdout}${outcome.stderr}`);
  return JSON.parse(outcome.stdout) as EncryptionStatus;
}

async function refused(args: readonly string[], input = ''): Promise<string> {
  const { code, stdout } = await engine.run([args[0] ?? '', '--json', ...args.slice(1)], { input });
  expect(code).not.toBe(0);
  const { error } = JSON.parse(stdout) as { error: { message: string; hint: string } };
  return `${error.message} ${error.hint}`;
}

/** Files below the state folder that have one of these strings. */
async function filesWith(words: readonly string[]): Promise<string[]> {
  const patterns = words.flatMap((word) => ['-e', word]);
  const found = run('grep', ['-r', '-l', '-a', '-F', ...patterns, engine.paths.stateDir]);
  return found.then(
    ({ stdout }) => stdout.split('\n').filter(Boolean),
    () => [],
  );
}

const inMemory = () => readdir(join(engine.paths.runDir, 'plain')).catch(() => []);

it('leaves nothing of an application on disk that can be read, and gives all of it back', async () => {
  expect((await encryption('status')).state).toBe('off');
  await start();
  const before = await engine.json<Snapshot>('suspend', 'app');
  expect(await filesWith(Object.values(secrets))).not.toEqual([]);
  await engine.json('resume', 'app');
  await isRight();
  await engine.json('rm', before.id);
  await engine.json('gc');

  expect((await encryption('on', `${passphrase}\n`)).state).toBe('unlocked');
  const snapshot = await engine.json<Snapshot>('suspend', 'app');
  expect(await filesWith(Object.values(secrets))).toEqual([]);
  // No image of CRIU's is one any more, and nothing is left in memory.
  const images = join(engine.paths.stateDir, 'snapshots', snapshot.id, 'images');
  for (const name of await readdir(images))
    expect((await readFile(join(images, name))).toString('latin1', 0, 8)).toBe('TORPORFE');
  expect(await inMemory()).toEqual([]);
  await engine.json('gc');
  expect((await engine.json<VerifyResult[]>('verify', '--read-data')).map(({ problem }) => problem)).toEqual([
    '',
  ]);

  // The key is in the engine's memory only.
  await engine.kill('SIGTERM');
  expect((await encryption('status')).state).toBe('locked');
  expect((await engine.snapshots()).map(({ id, name }) => ({ id, name }))).toEqual([
    { id: snapshot.id, name: 'app' },
  ]);
  expect(await refused(['resume', 'app'])).toMatch(/is locked.*torpor encryption unlock/);
  expect((await engine.json<VerifyResult[]>('verify'))[0]?.ok).toBe(true);
  expect((await engine.json<VerifyResult[]>('verify', '--read-data').catch(() => [])).length).toBe(0);
  expect(await refused(['encryption', 'unlock'], 'another passphrase\n')).toContain('not the passphrase');
  expect((await encryption('status')).state).toBe('locked');
  expect((await encryption('unlock', `${passphrase}\n`)).state).toBe('unlocked');

  await engine.json<Workload>('resume', 'app');
  await isRight();
  expect(await inMemory()).toEqual([]);
  const second = await engine.json<Snapshot>('suspend', 'app');
  expect(second.bytesOnDisk).toBeLessThan(snapshot.bytesOnDisk / 2);
  await engine.json('resume', 'app', '--eager');
  await isRight();
  expect(await filesWith(Object.values(secrets))).toEqual([]);
  await encryption('lock');
  expect(await refused(['suspend', 'app'])).toMatch(/is locked.*torpor encryption unlock/);
  await isRight();
});

it('encrypts what is there already in the background, and reads all of it once it is off', async () => {
  await start();
  const plain = await engine.json<Snapshot>('suspend', 'app');
  const on = await encryption('on', `${passphrase}\n`);
  expect(on.plainSnapshots).toBe(1);
  await expect
    .poll(async () => (await encryption('status')).plainBytes, { timeout: 60_000, interval: 200 })
    .toBe(0);
  const packs = join(engine.paths.stateDir, 'packs');
  expect((await run('grep', ['-rlaF', secrets.memory, packs]).catch(() => ({ stdout: '' }))).stdout).toBe('');
  await encryption('lock');
  expect(await refused(['resume', 'app'])).toMatch(/is locked.*torpor encryption unlock/);
  await encryption('unlock', `${passphrase}\n`);
  await engine.json('resume', 'app');
  await isRight();
  const encrypted = await engine.json<Snapshot>('suspend', 'app');
  await encryption('off');
  await engine.kill('SIGTERM');
  expect((await encryption('status')).state).toBe('off');
  expect((await engine.json<VerifyResult[]>('verify', '--read-data')).every(({ ok }) => ok)).toBe(true);
  await engine.json('resume', encrypted.id);
  await isRight();
  const after = await engine.json<Snapshot>('suspend', 'app');
  expect(await filesWith([secrets.memory])).not.toEqual([]);
  // Another time is another key.
  await encryption('on', `${passphrase} yet\n`);
  for (const id of [after.id, encrypted.id, plain.id]) {
    await engine.json('resume', id);
    await isRight();
    await engine.json('suspend', 'app');
  }
});

it('changes the passphrase, and overwrites nothing that it cannot read', async () => {
  await encryption('on', `${passphrase}\n`);
  expect(await refused(['encryption', 'passphrase'], `wrong passphrase\nanother one\n`)).toContain(
    'not the passphrase',
  );
  expect(await refused(['encryption', 'passphrase'], `${passphrase}\nshort\n`)).toContain('fewer than 8');
  await encryption('passphrase', `${passphrase}\nsomething else\n`);
  await encryption('lock');
  expect(await refused(['encryption', 'unlock'], `${passphrase}\n`)).toContain('not the passphrase');
  await encryption('unlock', 'something else\n');
  expect(await refused(['encryption', 'on'], `${passphrase}\n`)).toContain('encrypted already');
  const { code, stdout } = await engine.run(['encryption', '--json'], { uid: 65_534 });
  expect(code).not.toBe(0);
  expect(stdout).toContain('not-permitted');

  await engine.kill('SIGTERM');
  const file = join(engine.paths.stateDir, 'encryption.json');
  await writeFile(file, '{ "version": 1');
  const status = await engine.run(['encryption', '--json']);
  expect(status.code).toBe(1);
  expect(JSON.parse(status.stdout)).toMatchObject({
    state: 'unreadable',
    problem: expect.stringContaining(file),
  });
  expect(await refused(['encryption', 'on'], `${passphrase}\n`)).toContain(file);
  expect(await readFile(file, 'utf8')).toBe('{ "version": 1');
});

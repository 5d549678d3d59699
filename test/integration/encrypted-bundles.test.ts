/** Bundles from an encrypted store to one that is not, and back: on no disk between is anything that can be read. */
import { execFile } from 'node:child_process';
import { chown, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { EncryptionStatus, ExportResult, ImportResult, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { makeUser, type TestUser } from '../support/users.ts';

const run = promisify(execFile);
const waiting = { timeout: 15_000, interval: 50 };
const storePassphrase = 'three words more';
const passphrase = 'correct horse battery staple';
const secrets = { memory: 'the-secret-of-its-memory', document: 'the-secret-of-its-document' };

/** The string is put together here, so that the program itself does not have it. */
const counter = `
import os, time
folder = os.environ['HOME']
part = lambda word: ('the-secret-of-' + word).encode()
memory = bytearray(part('its-memory') * 4096)
letter = open(folder + '/letter', 'a')
count = 0
while True:
    time.sleep(0.05)
    count += 1
    right = memory == part('its-memory') * 4096
    with open(folder + '/next', 'w') as file: file.write(str(count if right else -1))
    os.rename(folder + '/next', folder + '/count')
`;

let erin: TestUser;
let dave: TestUser;
/** Encrypted. */
let home: TestEngine;
let away: TestEngine;
/** Encrypted, and not where it is at home. */
let vault: TestEngine;
let key: string;

beforeAll(async () => {
  [erin, dave] = [await makeUser('torpor-erin', 21507), await makeUser('torpor-dave', 21508)];
  [home, away, vault] = [await TestEngine.create(), await TestEngine.create(), await TestEngine.create()];
  key = await mkdtemp('/var/tmp/torpor-key-');
  for (const each of [home, vault]) expect((await encryption(each, 'on')).state).toBe('unlocked');
});
afterAll(async () => {
  for (const each of [home, away, vault, erin, dave]) await each?.[Symbol.asyncDispose]();
  if (key !== undefined) await rm(key, { recursive: true, force: true });
});

async function encryption(engine: TestEngine, action: string): Promise<EncryptionStatus> {
  const outcome = await engine.run(['encryption', '--json', action], { input: `${storePassphrase}\n` });
  expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 0 });
  return JSON.parse(outcome.stdout) as EncryptionStatus;
}

async function torpor<T>(engine: TestEngine, command: string, ...args: string[]): Promise<T> {
  const outcome = await engine.run([command, '--json', ...args], { input: `${passphrase}\n` });
  expect(outcome, outcome.stdout + outcome.stderr + (await engine.logTail(4))).toMatchObject({ code: 0 });
  return JSON.parse(outcome.stdout) as T;
}

async function refusedAsLocked(engine: TestEngine, command: string, ...args: string[]): Promise<void> {
  const outcome = await engine.run([command, '--json', ...args], { input: `${passphrase}\n` });
  expect(outcome).toMatchObject({ code: 3 });
  const { error } = JSON.parse(outcome.stdout) as { error: { message: string; hint: string } };
  expect(`${error.message} ${error.hint}`).toMatch(/is locked.*torpor encryption unlock/);
}

/** Files below a folder, relative to it, that have one of these strings. */
async function filesWith(folder: string, ...words: string[]): Promise<string[]> {
  const patterns = words.flatMap((word) => ['-e', word]);
  const found = await run('grep', ['-rlaF', ...patterns, '.'], { cwd: folder }).catch((error) => {
    if (error.code !== 1) throw error;
    return { stdout: '' };
  });
  return found.stdout.split('\n').filter(Boolean);
}

/** Neither the store nor what is on its way into it or out of it can be read. */
async function hasNothingReadable(engine: TestEngine, ...words: string[]): Promise<void> {
  expect(await filesWith(engine.paths.stateDir, ...words)).toEqual([]);
  expect(await readdir(join(engine.paths.stateDir, 'staging'))).toEqual([]);
  expect(await readdir(join(engine.paths.runDir, 'plain')).catch(() => [])).toEqual([]);
}

async function countOf(read: () => Promise<string>): Promise<number> {
  return Number((await read()).trim());
}
const atHome = () => countOf(() => readFile(join(erin.home, 'count'), 'utf8'));
const inside = (engine: TestEngine, id: string) =>
  countOf(async () => (await engine.run(['exec', id, '--', 'cat', join(erin.home, 'count')])).stdout);
const goesOn = (read: () => Promise<number>, from: number) =>
  vi.waitFor(async () => expect(await read()).toBeGreaterThan(from + 3), waiting);

let bundle: string;
let id: string;
let left: number;

it('is not written while the key is locked, and nothing is suspended for it', async () => {
  bundle = join(key, 'session');
  await writeFile(join(erin.home, 'letter'), secrets.document.repeat(100));
  await chown(join(erin.home, 'letter'), erin.uid, erin.uid);
  const env = ['--env', `HOME=${erin.home}`];
  const words = ['--', 'python3', '-c', counter];
  const started = await torpor<Workload>(home, 'run', '--name', 'app', '--user', erin.name, ...env, ...words);
  id = started.id;
  await goesOn(() => atHome().catch(() => 0), 0);
  const { pids } = await home.workload(id);
  await encryption(home, 'lock');
  for (const path of [`${bundle}/`, `${bundle}.torpor`]) await refusedAsLocked(home, 'export', 'app', path);
  expect(await home.workload(id)).toMatchObject({ state: 'running', pids });
  expect(await home.snapshots()).toEqual([]);
  await goesOn(atHome, await atHome());
  expect(await readdir(key)).toEqual([]);

  await encryption(home, 'unlock');
  await torpor(home, 'suspend', 'app');
  await encryption(home, 'lock');
  await refusedAsLocked(home, 'export', 'app', `${bundle}/`);
  expect(await readdir(key)).toEqual([]);
  await encryption(home, 'unlock');
  await torpor(home, 'resume', 'app');
});

it('leaves an encrypted store without anything of it being readable', async () => {
  const result = await torpor<ExportResult>(home, 'export', 'app', `${bundle}/`);
  expect(result.workloads).toMatchObject([{ id, state: 'suspended' }]);
  left = await atHome();
  expect(await filesWith(key, ...Object.values(secrets))).toEqual([]);
  await hasNothingReadable(home, ...Object.values(secrets));
});

it('goes on from a store that is not encrypted', async () => {
  const { workloads } = await torpor<ImportResult>(away, 'import', '--user', dave.name, `${bundle}/`);
  const [there] = workloads as [Workload];
  // What is looked for below can be found.
  expect(await filesWith(away.paths.stateDir, secrets.memory)).not.toEqual([]);
  expect(await filesWith(away.paths.stateDir, secrets.document)).not.toEqual([]);
  await torpor(away, 'resume', there.id);
  await goesOn(() => inside(away, there.id), left);
  await away.run(['exec', there.id, '--', 'sh', '-c', `echo ${secrets.document} >> ${erin.home}/letter`]);
  const again = await torpor<ExportResult>(away, 'export', there.id, `${bundle}/`);
  expect(again.generation).toBe(2);
  expect(await filesWith(key, ...Object.values(secrets))).toEqual([]);
  left = await inside(away, there.id).catch(() => left);
});

it('is not taken in while the key is locked', async () => {
  await encryption(home, 'lock');
  await refusedAsLocked(home, 'import', `${bundle}/`);
  await encryption(home, 'unlock');
  await hasNothingReadable(home, ...Object.values(secrets));
});

it('comes home into the encrypted store, and goes on from there', async () => {
  const imported = await torpor<ImportResult>(home, 'import', `${bundle}/`);
  expect(imported).toMatchObject({ isHome: true, workloads: [{ id, state: 'suspended' }] });
  expect(imported.documents).toContainEqual({ path: join(erin.home, 'letter'), outcome: 'written' });
  await hasNothingReadable(home, ...Object.values(secrets));
  await torpor(home, 'resume', 'app');
  await goesOn(atHome, left);
  await torpor(home, 'suspend', 'app');
  await hasNothingReadable(home, ...Object.values(secrets));
});

it('is as unreadable in an encrypted store of another machine, but for its files in the layer', async () => {
  const { workloads } = await torpor<ImportResult>(vault, 'import', '--user', dave.name, `${bundle}/`);
  const [there] = workloads as [Workload];
  await hasNothingReadable(vault, secrets.memory);
  const readable = await filesWith(vault.paths.stateDir, secrets.document);
  expect(readable.filter((path) => !path.startsWith('./layers/'))).toEqual([]);
  await torpor(vault, 'resume', there.id);
  await goesOn(() => inside(vault, there.id), left);
  await torpor(vault, 'end', there.id);
  await hasNothingReadable(vault, secrets.memory);
});

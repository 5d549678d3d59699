/** Snapshots apart from resuming them: their pictures, the mark that keeps them, word of changes, forgetting. */
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { EngineClient } from '../../api/client.ts';
import { decodePng } from '../../api/rfb/picture.ts';
import type { Snapshot, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';
import { clientOf } from '../support/subscriber.ts';

/** games and man, which every Debian has. */
const owner = 5;
const other = 6;
const waiting = { timeout: 10_000, interval: 20 };

let engine: TestEngine;
let client: EngineClient;
let id: string;
let snapshot: string;
const changes: string[] = [];

/** `torpor` as the owner of the workload. @returns its JSON document */
async function asOwner<T>(...args: string[]): Promise<T> {
  const outcome = await engine.run([...args, '--json'], { uid: owner });
  expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 0 });
  return JSON.parse(outcome.stdout) as T;
}

/** Waits until word of a change came since the last call. */
async function expectChanges(...workloads: string[]): Promise<void> {
  await vi.waitFor(() => expect(changes).toEqual(workloads), waiting);
  changes.length = 0;
}

beforeAll(async () => {
  engine = await TestEngine.create();
  await engine.json('ps');
  client = await clientOf(engine);
  client.on('snapshotsChanged', (workload) => changes.push(workload));
  const run = ['run', '--json', '--env', 'SHELL=/bin/bash', '--', 'xterm'];
  const started = await engine.run(run, { uid: owner });
  expect(started, started.stderr).toMatchObject({ code: 0 });
  ({ id } = JSON.parse(started.stdout) as Workload);
  ({ id: snapshot } = await asOwner<Snapshot>('suspend', id));
});
afterAll(() => engine[Symbol.asyncDispose]());
afterAll(() => client[Symbol.asyncDispose]());

describe('the picture of a snapshot', () => {
  it('is a PNG file in a folder of the caller’s own, in either size', async () => {
    const full = decodePng(await readFile(await client.picture(snapshot, 'full')));
    expect(full).toMatchObject({ width: 1280, height: 800 });
    expect(new Set(full.rgb).size).toBeGreaterThan(1);
    const path = await client.picture(snapshot.slice(0, 6), 'thumbnail');
    expect(decodePng(await readFile(path))).toMatchObject({ width: 320, height: 200 });
    expect(await lstat(path)).toMatchObject({ uid: 0, mode: 0o100400 });
  });

  it('is readable for its user alone', async () => {
    const shared = await mkdtemp('/var/tmp/torpor-pictures-');
    await chmod(shared, 0o777);
    const file = join(shared, 'shot.png');
    const shown = await engine.run(['screenshot', snapshot, file], { uid: owner });
    expect(shown.code, shown.stderr).toBe(0);
    expect(decodePng(await readFile(file)).width).toBe(1280);
    await rm(file);
    const folder = join(engine.paths.runDir, 'pictures', String(owner));
    expect(await stat(folder)).toMatchObject({ uid: owner, mode: 0o40700 });
    expect(await stat(join(folder, `${snapshot}-full.png`))).toMatchObject({ uid: owner, mode: 0o100400 });
    const refused = await engine.run(['screenshot', snapshot, file], { uid: other });
    expect(refused).toMatchObject({ code: 5, stdout: '' });
    expect(await readdir(shared)).toEqual([]);
    await rm(shared, { recursive: true });
    expect(await readdir(join(engine.paths.runDir, 'pictures'))).not.toContain(String(other));
  });

  it('goes where it belongs, whatever its user has put there', async () => {
    const folder = join(engine.paths.runDir, 'pictures', '0');
    const secret = join(engine.paths.stateDir, 'secret');
    await writeFile(secret, 'secret');
    const path = join(folder, `${snapshot}-full.png`);
    await rm(path);
    await symlink(secret, path);
    expect(await client.picture(snapshot, 'full')).toBe(path);
    expect((await lstat(path)).isFile()).toBe(true);
    expect(await readFile(secret, 'utf8')).toBe('secret');
  });

  it.each([
    ['nothing', 'full', 'not-found'],
    ['../../../etc', 'full', 'not-found'],
    ['', 'full', 'not-found'],
    ['snapshot', 'huge', 'usage'],
    ['snapshot', '../key', 'usage'],
  ])('is refused for %j in size %j', async (reference, size, code) => {
    const wanted = reference === 'snapshot' ? snapshot : reference;
    await expect(client.picture(wanted, size)).rejects.toMatchObject({ code });
  });

  it('is shown by the command for a suspended workload and for a snapshot', async () => {
    for (const reference of [id, snapshot, snapshot.slice(0, 5)]) {
      const file = join(engine.paths.stateDir, 'shot.png');
      const shot = await engine.json('screenshot', reference, file);
      expect(shot).toEqual({ file, width: 1280, height: 800 });
      expect(decodePng(await readFile(file)).width).toBe(1280);
      await rm(file);
    }
  });

  it('that was changed on disk is not handed out', async () => {
    const file = join(engine.paths.stateDir, 'snapshots', snapshot, 'thumbnail.png');
    const before = await readFile(file);
    await rm(join(engine.paths.runDir, 'pictures', '0', `${snapshot}-thumbnail.png`));
    await writeFile(file, Buffer.concat([before.subarray(0, -1), Buffer.from([1])]));
    await expect(client.picture(snapshot, 'thumbnail')).rejects.toMatchObject({
      code: 'failed',
      message: expect.stringContaining('thumbnail.png'),
    });
    await writeFile(file, before);
    await client.picture(snapshot, 'thumbnail');
  });
});

describe('a kept snapshot', () => {
  const isKept = async () => (await engine.snapshots()).find((each) => each.id === snapshot)?.kept;

  it('is not removed, also by another engine later', async () => {
    expect(await isKept()).toBe(false);
    changes.length = 0;
    await asOwner('keep', snapshot);
    await expectChanges(id);
    expect(await isKept()).toBe(true);
    const error = await engine.failure(3, 'rm', snapshot);
    expect(error).toMatchObject({ code: 'blocked', hint: expect.stringContaining('torpor keep --no') });
    await expect(client.remove(snapshot)).rejects.toMatchObject({ code: 'blocked' });
    await engine.kill();
    expect(await isKept()).toBe(true);
    await engine.failure(3, 'rm', snapshot);
    expect(await engine.json('verify', '--read-data')).toMatchObject([{ ok: true }]);
    client = await clientOf(engine);
    client.on('snapshotsChanged', (workload) => changes.push(workload));
  });

  it('is kept and released by its owner alone', async () => {
    const refused = await engine.run(['keep', '--no', snapshot], { uid: other });
    expect(refused).toMatchObject({ code: 5 });
    await engine.failure(4, 'keep', 'nothing');
    expect(await isKept()).toBe(true);
    await asOwner('keep', '--no', snapshot);
    await asOwner('keep', '--no', snapshot);
    expect(await isKept()).toBe(false);
  });

  it('is kept while it is being resumed, and resumes', async () => {
    changes.length = 0;
    const resumed = asOwner<Workload>('resume', id);
    await vi.waitFor(async () => expect((await client.get(id)).state).toBe('resuming'), waiting);
    await client.keep(snapshot, true);
    await resumed;
    // Kept, and marked as used.
    await expectChanges(id, id);
    expect(await engine.snapshots()).toMatchObject([{ kept: true, usedAt: expect.any(String) }]);
  });

  it('is removed by force, and its pictures with it', async () => {
    await mkdir(join(engine.paths.runDir, 'pictures', '0', 'mine'));
    const full = await client.picture(snapshot, 'full');
    changes.length = 0;
    await engine.json('rm', '--force', snapshot);
    await expectChanges(id, id);
    await expect(lstat(full)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await readdir(join(engine.paths.runDir, 'pictures', String(owner)))).toEqual([]);
    await expect(client.picture(snapshot, 'full')).rejects.toMatchObject({ code: 'not-found' });
  });
});

it('tells of a snapshot that is made while the application runs on', async () => {
  changes.length = 0;
  const taken = await asOwner<Snapshot>('suspend', '--leave-running', id);
  await expectChanges(id);
  const path = await client.picture(taken.id, 'thumbnail');
  // An engine that did not see the removal takes the picture back when it starts.
  await engine.kill();
  await rm(join(engine.paths.stateDir, 'snapshots', taken.id), { recursive: true });
  await engine.json('ps');
  await expect(lstat(path)).rejects.toMatchObject({ code: 'ENOENT' });
});

it('are all removed with their workload, when it is forgotten', async () => {
  client = await clientOf(engine);
  const forgotten: string[] = [];
  client.on('workloadForgotten', (workload) => forgotten.push(workload));
  const error = await engine.failure(1, 'forget', id);
  expect(error).toMatchObject({
    message: expect.stringContaining('is running'),
    hint: expect.stringContaining('torpor end'),
  });
  const [first, second] = [
    await asOwner<Snapshot>('suspend', '--leave-running', id),
    await asOwner<Snapshot>('suspend', id),
  ];
  await asOwner('keep', first.id);
  expect(await engine.failure(3, 'forget', id)).toMatchObject({ code: 'blocked' });
  expect((await engine.snapshots()).map((each) => each.id)).toEqual([second.id, first.id]);
  expect(await engine.run(['forget', id], { uid: other })).toMatchObject({ code: 5 });
  await asOwner('keep', '--no', first.id);
  await asOwner('forget', id);
  expect(await engine.snapshots()).toEqual([]);
  expect(await engine.json('ps')).toEqual([]);
  await vi.waitFor(() => expect(forgotten).toEqual([id]), waiting);
  await engine.failure(4, 'forget', id);
});

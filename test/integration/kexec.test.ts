/**
 * What of a jump to another kernel can be had without one: the canary, what is refused, and an arrival, by the record of
 * a jump from a boot that is over.
 */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connectEngine, readEngineAddress } from '../../api/client.ts';
import type { Arrival, Session } from '../../api/types.ts';
import { findInstallation } from '../../engine/installation.ts';
import { Canary } from '../../engine/kexec/canary.ts';
import { describeStateFolder } from '../../engine/kexec/state-folder.ts';
import { bootId } from '../../engine/process.ts';
import { Counter, removeSnapshots } from '../fault/scene.ts';
import { depart } from '../support/departure.ts';
import { TestEngine } from '../support/engine.ts';
import { canCheckpoint, makeClient } from './criu-fixture.ts';

let engine: TestEngine;
const canaryOf = (stateDir: string) =>
  new Canary({ criu: makeClient(), installation: findInstallation(), folder: join(stateDir, 'canary') });

beforeAll(async () => {
  engine = await TestEngine.create();
});
afterEach(() => removeSnapshots(engine));
afterAll(() => engine[Symbol.asyncDispose]());

describe.runIf(canCheckpoint)('a canary', () => {
  it('is checkpointed and comes back as it was, as often as wanted', async () => {
    const canary = canaryOf(engine.paths.stateDir);
    await canary.make();
    await canary.try();
    await canary.try();
    await canary.remove();
    expect(await readdir(engine.paths.stateDir)).not.toContain('canary');
  });

  it.each(['core-1.img', 'pages-1.img'])(
    'that is damaged (%s) does not come back, and that is said',
    async (name) => {
      const canary = canaryOf(engine.paths.stateDir);
      await canary.make();
      const path = join(engine.paths.stateDir, 'canary', 'images', name);
      const image = await readFile(path);
      // The whole of it, so that what it holds is not what it had.
      await writeFile(path, Buffer.alloc(image.length, 0x55));
      await expect(canary.try()).rejects.toThrow(/did not come back/);
      await canary.remove();
    },
  );
});

describe('the state folder', () => {
  it('is known by its file system and by what drives its disk', async () => {
    const folder = await describeStateFolder(engine.paths.stateDir);
    expect(folder).toMatchObject({ isVolatile: false });
    expect(folder.freeBytes).toBeGreaterThan(0);
    expect((await describeStateFolder('/dev/shm')).isVolatile).toBe(true);
    expect((await describeStateFolder('/dev/shm')).fileSystem).toBe('tmpfs');
  });
});

describe.runIf(canCheckpoint)('torpor kexec', () => {
  it('is refused for a kernel that is not there, and to others than root', async () => {
    expect((await engine.failure(4, 'kexec', '--kernel', '9.9.9')).message).toMatch(/installed/);
    expect((await engine.failure(4, 'kexec', '--dry-run', '--kernel', '9.9.9')).message).toMatch(/installed/);
    const outcome = await engine.run(['kexec', '--dry-run', '--json'], { uid: 65534 });
    expect(outcome.code).toBe(5);
    await engine.failure(2, 'kexec', '--status', '--dry-run');
  });

  it('says that there was none', async () => {
    expect(await engine.json<Arrival>('kexec', '--status')).toMatchObject({ state: 'none', left: [] });
  });
});

describe.runIf(canCheckpoint)('after a jump', () => {
  it('what was saved comes back by itself', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await engine.json('session', 'save', 'kexec');
    await canaryOf(engine.paths.stateDir).make();
    await depart(engine.paths.stateDir, 'kexec');
    await engine.kill('SIGTERM');
    const arrival = await engine.json<Arrival>('kexec', '--status');
    expect(arrival).toMatchObject({ state: 'restored', from: '6.1.0-1', to: '6.12.0-1', left: [] });
    expect(arrival.took).toEqual({ checkMs: 1100, loadMs: 200, saveMs: 3000 });
    expect(arrival.firstMs).toBeLessThanOrEqual(arrival.allMs ?? 0);
    await one.expectCounting();
    await two.expectCounting();
    const left = await readdir(engine.paths.stateDir);
    expect(left).not.toContain('kexec.json');
    expect(left).not.toContain('canary');
  });

  it('that did not take place what was saved for it goes on', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await engine.json('session', 'save', 'kexec 1');
    await canaryOf(engine.paths.stateDir).make();
    await depart(engine.paths.stateDir, 'kexec 1', { boot: bootId, phase: 'saving' });
    await engine.kill();
    expect(await engine.json<Arrival>('kexec', '--status')).toMatchObject({ state: 'none' });
    await one.expectCounting();
    expect(await readdir(engine.paths.stateDir)).not.toContain('kexec.json');
    expect(await engine.json<Session[]>('session', 'ls')).toEqual([]);
  });

  it('what was saved for one before it comes back, too, but for what somebody has forgotten', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    await using two = await Counter.start(engine, '--name', 'two');
    await engine.json('session', 'save', 'kexec 1', 'one');
    await engine.json('session', 'save', 'kexec 2', 'two');
    await canaryOf(engine.paths.stateDir).make();
    await depart(engine.paths.stateDir, 'kexec 2', { earlier: ['kexec 0', 'kexec 1'] });
    await engine.kill('SIGTERM');
    const arrival = await engine.json<Arrival>('kexec', '--status');
    expect(arrival).toMatchObject({ state: 'restored', left: [] });
    await one.expectCounting();
    await two.expectCounting();
  });

  it('what is encrypted comes back as soon as it is unlocked', async () => {
    await using encrypted = await TestEngine.create();
    const unlock = (action: string) =>
      encrypted.run(['encryption', action], {
        input: 'correct horse battery staple\n',
      });
    const on = await unlock('on');
    expect(on.code, on.stderr).toBe(0);
    await using one = await Counter.start(encrypted, '--name', 'one');
    await encrypted.json('session', 'save', 'kexec 1');
    await canaryOf(encrypted.paths.stateDir).make();
    await depart(encrypted.paths.stateDir, 'kexec 1');
    await encrypted.kill('SIGTERM');
    expect(await encrypted.json<Arrival>('kexec', '--status')).toMatchObject({ state: 'locked' });
    expect((await encrypted.workload(one.id)).state).toBe('suspended');
    const unlocked = await unlock('unlock');
    expect(unlocked.code, unlocked.stderr).toBe(0);
    await one.expectCounting();
    expect(await encrypted.json<Arrival>('kexec', '--status')).toMatchObject({ state: 'restored' });
  });

  it('nothing is touched where the kernel does not restore, and it can be tried by hand', async () => {
    await using one = await Counter.start(engine, '--name', 'one');
    // As a jump saves it.
    const client = await connectEngine((await readEngineAddress(engine.paths))?.address ?? '');
    await client.saveSession('kexec', [one.id], { leaveRunning: false, reason: 'kexec' });
    await client[Symbol.asyncDispose]();
    await canaryOf(engine.paths.stateDir).make();
    await rm(join(engine.paths.stateDir, 'canary', 'images', 'core-1.img'));
    await depart(engine.paths.stateDir, 'kexec');
    await engine.kill('SIGTERM');
    const outcome = await engine.run(['kexec', '--json', '--status']);
    expect(outcome.code).toBe(1);
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      state: 'cannot-restore',
      what: expect.stringContaining('Everything that was saved is kept'),
      hint: expect.stringContaining('torpor kexec --kernel 6.1.0-1'),
    });
    // Nor is it at a log-in.
    await engine.json('session', 'policy', '--restore-at-login', 'yes');
    const login = await engine.run(['session', 'restore', '--at-login']);
    expect(login).toMatchObject({ code: 0, stdout: expect.stringContaining('does not restore') });
    expect((await engine.workload(one.id)).state).toBe('suspended');
    // Also with the next engine: it stays so until it has come back.
    await engine.kill('SIGTERM');
    expect((await engine.run(['kexec', '--json', '--status'])).code).toBe(1);
    const [session] = await engine.json<Session[]>('session', 'ls');
    expect(session?.members).toMatchObject([{ name: 'one', state: 'ready' }]);
    await engine.json('session', 'restore', 'kexec');
    await one.expectCounting();
    await rm(join(engine.paths.stateDir, 'kexec.json'));
    await rm(join(engine.paths.stateDir, 'canary'), { recursive: true });
  });
});

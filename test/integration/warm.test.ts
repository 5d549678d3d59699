/** Warm starts of a real program with real settings: a snapshot to begin with, as long as it still says what a cold start would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CapsuleWindow, Snapshot, Workload } from '../../api/types.ts';
import { TestDisplay } from '../support/display.ts';
import { TestEngine } from '../support/engine.ts';
import { end } from '../support/programs.ts';
import { makeUser, type TestUser } from '../support/users.ts';
import { canCheckpoint } from './criu-fixture.ts';

const patient = { timeout: 60_000, interval: 200 };

describe.runIf(canCheckpoint)('a warm start', () => {
  let user: TestUser;
  let engine: TestEngine;
  let command: string[];
  const started: ChildProcess[] = [];

  beforeAll(async () => {
    user = await makeUser('torpor-warm', 21527);
  });
  afterAll(() => user[Symbol.asyncDispose]());

  beforeEach(async () => {
    engine = await TestEngine.create();
    await mkdir(join(user.home, '.config/greeter'), { recursive: true });
    await writeFile(settings(), 'hello\n');
    // A window whose title is a setting, and whose program writes down what it is told.
    const script = join(user.home, 'greeter');
    await writeFile(
      script,
      '#!/bin/sh\nread -r title <"$HOME/.config/greeter/settings"\nprintf "\\033]0;%s\\007" "$title"\ncat >"$HOME/typed-$TORPOR_TEST"\n',
      { mode: 0o755 },
    );
    command = ['xterm', '-e', script];
  });
  afterEach(async () => {
    for (const child of started.splice(0)) await end(child);
    await engine[Symbol.asyncDispose]();
  });

  const settings = () => join(user.home, '.config/greeter/settings');
  const options = () => ['--user', user.name, '--env', 'TORPOR_TEST=1'];
  const run = (...more: string[]) => engine.start(command, '--warm', ...options(), ...more);
  const titleOf = async ({ id }: Workload) =>
    (await engine.json<CapsuleWindow[]>('windows', id)).map(({ title }) => title);
  const warmOnes = async (): Promise<Snapshot[]> => (await engine.snapshots()).filter(({ warm }) => warm);
  const endAll = async () => {
    for (const { id, state } of await engine.json<Workload[]>('ps'))
      if (state === 'running') await engine.json('end', id);
  };

  it('makes a snapshot the first time, from which all later ones begin, side by side', async () => {
    const first = await run();
    expect(first.warm).toMatchObject({
      start: 'warm',
      prepared: true,
      why: { en: expect.stringContaining('first start') },
    });
    const second = await run('--name', 'another');
    expect(second).toMatchObject({ name: 'another', warm: { start: 'warm', prepared: false } });
    expect(second.warm?.snapshot).toBe(first.warm?.snapshot);
    const both = await engine.json<Workload[]>('ps');
    expect(both.map(({ id, state }) => [id, state])).toEqual([
      [first.id, 'running'],
      [second.id, 'running'],
    ]);
    for (const each of both) expect(await titleOf(each)).toEqual(['hello']);
    expect(await warmOnes()).toMatchObject([{ id: first.warm?.snapshot, name: 'xterm' }]);

    // What one does is not done by the other.
    await engine.json('end', first.id);
    expect((await engine.workload(second.id)).state).toBe('running');
    await engine.json('forget', first.id);
    expect(await warmOnes()).toHaveLength(1);
    expect((await run()).warm).toMatchObject({ start: 'warm', prepared: false });
  });

  it.each([
    ['settings', () => writeFile(settings(), 'good evening\n'), /settings has changed/, 'good evening'],
    ['program', () => appendFile(join(user.home, 'greeter'), '\n# newer\n'), /greeter has changed/, 'hello'],
    [
      'folder, into which it has looked,',
      () => writeFile(join(user.home, '.config/greeter/more'), ''),
      /greeter\/ has changed/,
      'hello',
    ],
  ])('begins with a new snapshot when its %s changed', async (what, change, why, title) => {
    if (what.startsWith('folder'))
      await writeFile(
        join(user.home, 'greeter'),
        '#!/bin/sh\nls "$HOME/.config/greeter"\nprintf "\\033]0;hello\\007"\nexec cat\n',
      );
    const { id, warm } = await run();
    await engine.json('end', id);
    // Nobody makes it anew before it is wanted.
    await engine.kill();
    await change();
    const next = await run();
    expect(next.warm).toMatchObject({
      start: 'warm',
      prepared: true,
      why: { en: expect.stringMatching(why) },
    });
    expect(await titleOf(next)).toEqual([title]);
    const stored = await warmOnes();
    expect(stored.map((each) => each.id)).toEqual([next.warm?.snapshot]);
    expect(next.warm?.snapshot).not.toBe(warm?.snapshot);
  });

  it('begins with the same one where its settings were written anew and are the same', async () => {
    const { id } = await run();
    await engine.json('end', id);
    await writeFile(settings(), 'hello\n');
    expect((await run()).warm).toMatchObject({ start: 'warm', prepared: false });
  });

  it('has its snapshot made anew by itself when the last one has ended that changed its settings', async () => {
    const first = await run();
    const second = await run();
    await writeFile(settings(), 'good night\n');
    await engine.json('end', first.id);
    expect((await run()).warm).toMatchObject({
      start: 'cold',
      why: { en: expect.stringContaining('runs already') },
    });
    expect((await warmOnes()).map(({ id }) => id)).toEqual([first.warm?.snapshot]);
    expect(second.warm?.snapshot).toBe(first.warm?.snapshot);
    await endAll();
    await vi.waitFor(async () => {
      const ids = (await warmOnes()).map(({ id }) => id);
      expect(ids).toHaveLength(1);
      expect(ids).not.toContain(first.warm?.snapshot);
    }, patient);
    const next = await run();
    expect(next.warm).toMatchObject({ start: 'warm', prepared: false });
    expect(await titleOf(next)).toEqual(['good night']);
  });

  it('is cold, and says so, where the program runs outside already', async () => {
    await using display = await TestDisplay.start();
    const env = { ...process.env, DISPLAY: display.name, HOME: user.home, TORPOR_TEST: 'outside' };
    const [program = '', ...args] = command;
    started.push(spawn(program, args, { env, stdio: 'ignore', uid: user.uid, gid: user.uid, cwd: '/' }));
    await vi.waitFor(
      async () => expect(await readFile(join(user.home, 'typed-outside'), 'utf8')).toBe(''),
      patient,
    );
    const { warm } = await run();
    expect(warm).toMatchObject({
      start: 'cold',
      prepared: false,
      why: { en: expect.stringContaining('runs already') },
    });
    expect(warm?.snapshot).toBeUndefined();
    expect(await engine.snapshots()).toEqual([]);
    expect(await engine.json<Workload[]>('ps')).toHaveLength(1);
  });

  it('that was removed is made again, and not before somebody asks for it', async () => {
    const { id, warm } = await run();
    await engine.json('rm', warm?.snapshot ?? '');
    await engine.json('end', id);
    await new Promise((resolve) => setTimeout(resolve, 4000));
    expect(await warmOnes()).toEqual([]);
    expect((await run()).warm).toMatchObject({ start: 'warm', prepared: true });
  });

  it('is another one with other arguments, and the same for no other user', async () => {
    await run();
    const other = await engine.start([...command, 'argument'], '--warm', ...options());
    expect(other.warm?.why?.en).toContain('runs already');
    await endAll();
    const again = await engine.start([...command, 'argument'], '--warm', ...options());
    expect(again.warm).toMatchObject({ start: 'warm', prepared: true });
    expect(await warmOnes()).toHaveLength(2);
  });

  it('that cannot come to a window fails as a cold one does', async () => {
    const failure = await engine.failure(1, 'run', '--warm', ...options(), '--', 'false');
    expect(failure.message).toMatch(/ended at once/);
    expect(await engine.json<Workload[]>('ps')).toEqual([]);
    expect(await engine.snapshots()).toEqual([]);
    await engine.failure(2, 'run', '--warm', '--name', '', ...options(), '--', ...command);
  });

  it.each([1000, 2300])(
    'leaves nothing where the engine is killed %d ms into the making of its snapshot',
    async (afterMs) => {
      await engine.json('ps');
      const running = engine.run(['run', '--json', '--warm', ...options(), '--', ...command]);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      await engine.kill();
      await running;
      for (const { id } of await engine.json<Workload[]>('ps')) await engine.run(['end', id]);
      const left = await engine.snapshots();
      expect(left.every(({ warm }) => warm)).toBe(true);
      const next = await run();
      expect(next.warm).toMatchObject({ start: 'warm' });
      expect(await titleOf(next)).toEqual(['hello']);
      expect(await warmOnes()).toHaveLength(1);
    },
  );
});

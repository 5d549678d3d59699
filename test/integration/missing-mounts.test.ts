/** A key is plugged in when an application is started, and pulled out before it is resumed. */
import { execFileSync } from 'node:child_process';
import { truncateSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ResumeResult, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

let engine: TestEngine;
let folder: string;
let mountPoint: string;
let image: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/mnt/torpor-missing-');
  [image, mountPoint] = [join(folder, 'image'), join(folder, 'key')];
  await mkdir(mountPoint);
  await writeFile(image, '');
  truncateSync(image, 16 * 1024 * 1024);
  execFileSync('mkfs.ext4', ['-q', image]);
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function whileMounted<T>(work: () => Promise<T>): Promise<T> {
  execFileSync('mount', ['-o', 'loop', image, mountPoint]);
  try {
    await writeFile(join(mountPoint, 'letter'), 'dear');
    return await work();
  } finally {
    execFileSync('umount', ['-l', mountPoint]);
  }
}

const stateOf = async (name: string) =>
  (await engine.json<Workload[]>('ps')).find((each) => each.name === name)?.state;
const lines = async (...command: string[]) =>
  (await engine.run(['exec', 'free', '--', ...command])).stdout.trim();

it('goes on without it where nothing lies on it, again and again, and has it when it is there', async () => {
  await whileMounted(async () => {
    await engine.start(['xterm', '-e', 'sleep', '1000'], '--name', 'free');
    expect(await lines('ls', mountPoint)).toContain('letter');
    await engine.json('suspend', 'free');
  });
  for (let time = 0; time < 2; time++) {
    const { findings } = await engine.json<ResumeResult>('resume', 'free');
    expect(findings).toContainEqual(
      expect.objectContaining({
        tie: 'mount',
        verdict: 'degraded',
        what: expect.stringContaining(mountPoint),
      }),
    );
    expect(await lines('ls', mountPoint)).toBe('');
    await engine.json('suspend', 'free');
  }
  await whileMounted(async () => {
    const { findings } = await engine.json<ResumeResult>('resume', 'free');
    expect(findings.filter(({ tie }) => tie === 'mount')).toEqual([]);
    expect(await lines('ls', mountPoint)).toContain('letter');
    await engine.json('end', 'free');
  });
});

it('is named where something lies on it, and the snapshot waits', async () => {
  const held = ['xterm', '-e', 'sh', '-c', `exec 3<${mountPoint}/letter; exec sleep 1000`];
  await whileMounted(async () => {
    await engine.start(held, '--name', 'bound');
    await engine.json('suspend', 'bound');
  });
  const error = await engine.failure(3, 'resume', 'bound');
  expect(error.message).toContain(`bound has something open on the file system at ${mountPoint}`);
  expect(await stateOf('bound')).toBe('suspended');
});

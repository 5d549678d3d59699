/**
 * A key as they are sold: exFAT, which knows no owners, modes or links, on a device of limited size that is pulled out while
 * it is written and that wears out. An image on a loop device; the kernel's own exFAT where it has one would do the same.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Reading } from '../../engine/bundle/medium/reading.ts';
import { fileStream, noise, type Outcome, passphrase, read, write } from '../support/bundle.ts';
import { ExfatKey } from '../support/exfat-key.ts';

const mebibyte = 1024 * 1024;
const keyBytes = 48 * mebibyte;

let folder: string;
let mountPoint: string;
let key: ExfatKey;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'torpor-exfat-'));
  mountPoint = join(folder, 'key');
  mkdirSync(mountPoint);
  key = ExfatKey.make(join(folder, 'image'), { bytes: keyBytes, mountPoint });
  await key.plugIn();
});
afterEach(async () => {
  await key.pullOut('torn');
  rmSync(folder, { recursive: true, force: true });
});

const errorOf = (outcome: Outcome) => outcome.last('error');
const expectDone = (outcome: Outcome) => {
  expect(errorOf(outcome)).toBeUndefined();
  expect(outcome.code).toBe(0);
};

async function generationAt(path: string): Promise<number> {
  await using reading = await Reading.open(path, { passphrase }, () => {});
  await reading.check();
  return reading.opened.generation;
}

describe.each(['file', 'folder'] as const)('a %s on a key', (form) => {
  const path = () => join(mountPoint, form === 'file' ? 'session.torpor' : 'session');
  const writeNoise = (seed: number, bytes: number) =>
    write(path(), fileStream(noise(seed, bytes)), { form, contents: { generation: seed } });

  it('is written, updated and read back after the key was taken out', async () => {
    expectDone(await writeNoise(1, 3 * mebibyte));
    await key.pullOut('ejected');
    await key.plugIn();
    expect(await generationAt(path())).toBe(1);
    expectDone(await writeNoise(2, 3 * mebibyte));
    await key.pullOut('ejected');
    await key.plugIn('ro');
    expect(await generationAt(path())).toBe(2);
    expect(errorOf(await writeNoise(3, mebibyte))?.message).toMatch(/can only be read/);
  });

  it('stays as it was where the key is full', async () => {
    expectDone(await writeNoise(1, 3 * mebibyte));
    const names = readdirSync(mountPoint, { recursive: true }).sort();
    const full = await writeNoise(2, keyBytes);
    expect(errorOf(full)).toMatchObject({ code: 'failed', message: expect.stringMatching(/no room left/) });
    expect(readdirSync(mountPoint, { recursive: true }).sort()).toEqual(names);
    expect(await generationAt(path())).toBe(1);
  });

  it('is there as it was where the key is torn out while it is written', async () => {
    expectDone(await writeNoise(1, 3 * mebibyte));
    // It has reached the key, as an export that has ended says.
    await key.pullOut('torn');
    await key.plugIn();
    const writing = writeNoise(2, 24 * mebibyte);
    const before = () =>
      execFileSync('du', ['-s', '-B', '1', mountPoint], { encoding: 'utf8' }).split('\t')[0];
    await expect.poll(() => Number(before()), { interval: 5 }).toBeGreaterThan(5 * mebibyte);
    await key.pullOut('torn');
    const torn = await writing;
    expect(errorOf(torn)).toMatchObject({ code: 'failed', message: expect.stringMatching(/medium/) });
    await key.plugIn();
    expect(await generationAt(path())).toBe(1);
    expectDone(await writeNoise(3, 3 * mebibyte));
    expect(await generationAt(path())).toBeGreaterThan(1);
  });

  it('is named with what is wrong where the key has worn out', async () => {
    expectDone(await writeNoise(1, 24 * mebibyte));
    await key.pullOut('ejected');
    await key.plugIn();
    key.wearOut(12 * mebibyte);
    const outcome = await read(path(), [{ task: 'check' }]);
    expect(outcome.last('checked')).toBeUndefined();
    expect(errorOf(outcome)).toMatchObject({
      code: 'failed',
      message: expect.stringContaining(path()),
      hint: expect.stringMatching(/\w/),
    });
    expect(errorOf(outcome)?.message).toMatch(/cannot be read|damaged/);
  });
});

/** Which failures of a suspend are tried again. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CriuError } from '../../engine/criu/criu-error.ts';
import { MomentaryError } from '../../engine/momentary.ts';
import { untilCalm } from '../../engine/transaction/suspend.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'torpor-again-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A failure of CRIU that says this in its log. */
async function failure(message: string): Promise<Error> {
  const logPath = join(folder, 'dump.log');
  await writeFile(
    logPath,
    `(00.1) Error (criu/sk.c:77): ${message}\n(00.2) Error (criu/cr-dump.c:1975): Dumping FAILED.\n`,
  );
  const exit = { status: 1, signal: null };
  const cause = await CriuError.of({ operation: 'dump', exit, stderr: '', errno: undefined, logPath });
  return new Error('it could not be suspended', { cause });
}

describe('a suspend that failed', () => {
  it.each([
    'netlink: The socket has data to read',
    'unix: Non-empty write queue on an in-flight socket 0x9c37d8',
    'unix: External socket is used. Consider using --ext-unix-sk option.',
    'skqueue: Control messages in queue, not supported',
  ])('is tried again for what is over in a moment: %s', async (message) => {
    const error = await failure(message);
    let tries = 0;
    const outcome = await untilCalm(async () => {
      tries++;
      if (tries < 3) throw error;
      return 'suspended';
    });
    expect([outcome, tries]).toEqual(['suspended', 3]);
  });

  it('is tried again for what Torpor itself has found in the images', async () => {
    let tries = 0;
    const outcome = await untilCalm(async () => {
      tries++;
      if (tries < 2) throw new MomentaryError('It is just connecting to a process outside.');
      return 'suspended';
    });
    expect([outcome, tries]).toEqual(['suspended', 2]);
  });

  it('is given up where it does not pass', async () => {
    const error = await failure('netlink: The socket has data to read');
    let tries = 0;
    const outcome = untilCalm(async () => {
      tries++;
      throw error;
    });
    await expect(outcome).rejects.toBe(error);
    expect(tries).toBe(8);
  });

  it.each([
    'Timeout reached. Try to interrupt: 1',
    'Unable to freeze cgroup /sys/fs/cgroup/x (30 x 100ms attempts, timeout: 3s)',
  ])('is given up sooner where it stands still for long each time: %s', async (message) => {
    const error = await failure(message);
    const limits: number[] = [];
    const outcome = untilCalm(async (freezeSeconds) => {
      limits.push(freezeSeconds);
      throw error;
    });
    await expect(outcome).rejects.toBe(error);
    expect(limits.length).toBeGreaterThan(2);
    expect(limits.reduce((sum, limit) => sum + limit, 0)).toBeLessThan(10);
  });

  it.each(["Can't dump nested user namespace for 71", 'Something entirely new'])(
    'is not tried again: %s',
    async (message) => {
      const error = await failure(message);
      let tries = 0;
      const outcome = untilCalm(async () => {
        tries++;
        throw error;
      });
      await expect(outcome).rejects.toBe(error);
      expect(tries).toBe(1);
    },
  );
});

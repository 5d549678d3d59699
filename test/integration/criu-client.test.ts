/** The real CRIU on a real process tree. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { CriuError } from '../../engine/criu/criu-error.ts';
import { readImages } from '../../engine/criu/images.ts';
import { killIfThere } from '../support/engine.ts';
import { Counter, canCheckpoint, makeClient, TestCgroup } from './criu-fixture.ts';

/** The number of processes in the tree's pid namespace, by its root. */
function children(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ');
}

describe.skipIf(!canCheckpoint)('CriuClient', { timeout: 60_000 }, () => {
  it('checkpoints a process tree, which is gone then, and restores it where it was', async () => {
    await using counter = await Counter.start();
    const client = makeClient();
    const seen: string[] = [];
    await counter.dump(client, {
      onStarted: (pid) => void seen.push(`criu ${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()}`),
      onNotify: {
        'pre-dump': () => void seen.push('pre-dump'),
        'post-dump': () => void seen.push('post-dump'),
      },
    });
    const count = counter.count();
    expect(await counter.isAlive()).toBe(false);
    expect(seen).toEqual(['criu criu', 'pre-dump', 'post-dump']);

    let restored: number | undefined;
    await counter.restore(client, {
      onNotify: {
        'post-restore': (pid) => {
          restored = pid;
        },
      },
    });
    expect(restored).toBe(counter.root.pid);
    expect(await counter.counts()).toBe(true);
    expect(counter.count()).toBeGreaterThan(count);
    expect(counter.count()).toBeLessThan(count + 500);
    expect(children(counter.root.pid)).toHaveLength(1);
  });

  it('lets it run on where that was asked for', async () => {
    await using counter = await Counter.start();
    await counter.dump(makeClient(), {}, { leaveRunning: true });
    expect(await counter.counts()).toBe(true);
  });

  it.each(['pre-dump', 'post-dump'] as const)('lets it run on where %s is refused', async (notification) => {
    await using counter = await Counter.start();
    const refusal = new Error('the disk is full');
    const dump = counter.dump(makeClient(), {
      onNotify: {
        [notification]: async () => {
          await sleep(20);
          throw refusal;
        },
      },
    });
    await expect(dump).rejects.toBe(refusal);
    expect(await counter.counts()).toBe(true);
    // And nothing is left that would keep it from being checkpointed.
    await counter.dump(makeClient());
    expect(await counter.isAlive()).toBe(false);
  });

  it('leaves nothing running where a restore is refused, and can restore again', async () => {
    await using counter = await Counter.start();
    const client = makeClient();
    await counter.dump(client);
    const count = counter.count();
    for (const notification of ['pre-restore', 'post-restore', 'pre-resume'] as const) {
      const refusal = new Error(`refused at ${notification}`);
      let root: number | undefined;
      const restore = counter.restore(client, {
        onNotify: {
          'setup-namespaces': (pid) => {
            root = pid;
          },
          [notification]: () => {
            throw refusal;
          },
        },
      });
      await expect(restore).rejects.toBe(refusal);
      if (root !== undefined) await gone(root);
      expect(counter.count()).toBe(count);
    }
    await counter.restore(client);
    expect(await counter.counts()).toBe(true);
  });

  it.each([0, 2, 5, 10, 20, 40, 80])(
    'keeps its target where CRIU is killed %i ms into a dump',
    async (delay) => {
      await using counter = await Counter.start(100);
      await using cgroup = new TestCgroup(counter.root.pid);
      let criu = -1;
      const dump = counter.dump(
        makeClient(),
        {
          onStarted: (pid) => {
            criu = pid;
          },
          onNotify: {
            'pre-dump': () => {
              setTimeout(() => killIfThere(criu), delay);
            },
            'post-dump': () => sleep(10_000, undefined, { ref: false }),
          },
        },
        cgroup.path === undefined ? {} : { freezeCgroup: cgroup.path },
      );
      const error = await dump.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(CriuError);
      expect((error as CriuError).message).toContain('ended by SIGKILL');
      cgroup.thaw();
      await sleep(50);
      expect(await counter.isAlive()).toBe(true);
      expect(await counter.counts()).toBe(true);
      expect(existsSync(`/proc/${criu}`)).toBe(false);
    },
  );

  it.each([
    'pre-restore',
    'setup-namespaces',
    'post-setup-namespaces',
    'post-restore',
    'pre-resume',
  ] as const)('leaves nothing running where CRIU is killed at %s of a restore', async (notification) => {
    await using counter = await Counter.start();
    const client = makeClient();
    await counter.dump(client);
    const count = counter.count();
    let criu = -1;
    let root: number | undefined;
    const restore = counter.restore(client, {
      onStarted: (pid) => {
        criu = pid;
      },
      onNotify: {
        'setup-namespaces': (pid) => {
          root = pid;
        },
        [notification]: (pid?: number) => {
          root = pid ?? root;
          process.kill(criu, 'SIGKILL');
        },
      },
    });
    await expect(restore).rejects.toThrow(
      'CRIU was ended by SIGKILL before it could restore the checkpoint.',
    );
    if (root !== undefined) await gone(root);
    // At pre-resume the end of CRIU sets the tree going for the moment until it is ended too.
    if (notification !== 'pre-resume') expect(counter.count()).toBe(count);
    // What CRIU had put there for the deleted file stays, and would be in its way.
    const { regFiles } = await readImages(counter.imagesDir);
    const ghosts = regFiles.flatMap(({ path, ghostId }) =>
      ghostId === undefined ? [] : [`${path}.cr.${ghostId.toString(16)}.ghost`],
    );
    expect(ghosts).toHaveLength(1);
    expect(existsSync(ghosts[0] ?? '')).toBe(notification === 'post-restore');
    for (const path of ghosts) rmSync(path, { force: true });
    await counter.restore(client);
    expect(await counter.counts()).toBe(true);
  });

  it('ends a CRIU that hangs, and says why it was cancelled', async () => {
    await using counter = await Counter.start();
    const abort = new AbortController();
    const reason = new Error('the user changed their mind');
    // A stopped CRIU sends nothing, as one does that waits for a target frozen by somebody else.
    const dump = counter.dump(makeClient(), {
      signal: abort.signal,
      onStarted: (pid) => {
        process.kill(pid, 'SIGSTOP');
        setTimeout(() => abort.abort(reason), 50);
      },
    });
    await expect(dump).rejects.toBe(reason);
    expect(await counter.counts()).toBe(true);
  });

  it('checkpoints what belongs to another user', async () => {
    await using counter = await Counter.start(1, 1500);
    const client = makeClient();
    await counter.dump(client);
    await counter.restore(client);
    expect(await counter.counts()).toBe(true);
    expect(readFileSync(`/proc/${counter.root.pid}/status`, 'utf8')).toMatch(
      /^Uid:\t1500\t1500\t1500\t1500$/m,
    );
  });

  it('passes on why it could not be started', async () => {
    const client = makeClient({ spawnPrefix: ['sh', '-c', 'echo "the root folder is gone" >&2; exit 1'] });
    await expect(client.version()).rejects.toThrow(
      'CRIU could not tell its version: the root folder is gone.',
    );
  });

  it('cancels a dump at the next notification and keeps the target', async () => {
    await using counter = await Counter.start(100);
    const abort = new AbortController();
    const reason = new Error('the user changed their mind');
    const dump = counter.dump(makeClient(), {
      signal: abort.signal,
      onNotify: { 'pre-dump': () => abort.abort(reason) },
    });
    await expect(dump).rejects.toBe(reason);
    expect(await counter.counts()).toBe(true);
  });

  it('completes a dump that was cancelled too late', async () => {
    await using counter = await Counter.start();
    const abort = new AbortController();
    await counter.dump(makeClient(), {
      signal: abort.signal,
      onNotify: { 'post-dump': () => abort.abort(new Error('too late')) },
    });
    expect(await counter.isAlive()).toBe(false);
  });

  it('keeps the event loop turning while CRIU works', async () => {
    await using counter = await Counter.start(400);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const startedAt = performance.now();
    await counter.dump(makeClient());
    const elapsed = performance.now() - startedAt;
    clearInterval(timer);
    // A quarter of what an idle machine gives: two cores are shared with CRIU and other tests.
    expect(ticks).toBeGreaterThan(elapsed / 5 / 4);
  });

  it('asks for version and features once, also for clients made from it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'torpor-criu-'));
    const starts = join(folder, 'starts');
    writeFileSync(starts, '');
    const client = makeClient({ spawnPrefix: ['sh', '-c', 'echo x >> "$0" && exec "$@"', starts] });
    try {
      const [version, again] = await Promise.all([client.version(), client.version()]);
      expect(again).toBe(version);
      expect(version.major * 100 + version.minor).toBeGreaterThanOrEqual(402);
      expect(version.text).toMatch(/^\d+\.\d+(\.\d+)?$/);
      await client.features();
      await client.withPrefix([]).features();
      await client.withPrefix([]).version();
      expect(readFileSync(starts, 'utf8')).toBe('x\nx\n');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('checks the kernel', async () => {
    expect(await makeClient().check()).toEqual({ ok: true, errors: [] });
  });

  it('says that CRIU is missing, and asks again later', async () => {
    const client = makeClient({ criuPath: '/nowhere/criu' });
    const missing = '/nowhere/criu cannot be started: it is not there.';
    await expect(client.version()).rejects.toThrow(missing);
    await expect(client.version()).rejects.toThrow(missing);
  });

  it('names a pid that is not there', async () => {
    await using counter = await Counter.start();
    const dump = counter.dump(makeClient(), {}, { pid: 4194303 });
    await expect(dump).rejects.toThrow(CriuError);
    await dump.catch((error: CriuError) => {
      expect(error.details.logPath).toBe(join(counter.imagesDir, 'dump.log'));
      expect(error.details.logTail).toContain('Error (');
    });
  });

  it('names the folder that is not there', async () => {
    const dump = makeClient().dump({ pid: 1, imagesDir: '/nowhere/at all', logFile: 'dump.log' });
    await expect(dump).rejects.toThrow('The folder /nowhere/at all for CRIU’s images files');
  });

  it('rejects a restore from damaged images and leaves nothing behind', async () => {
    await using counter = await Counter.start();
    await counter.dump(makeClient());
    truncateSync(join(counter.imagesDir, 'pstree.img'), 5);
    await expect(counter.restore(makeClient())).rejects.toThrow(CriuError);
    expect(counter.count()).toBe(counter.count());
  });

  it('runs several operations at once', async () => {
    await using first = await Counter.start(20);
    await using second = await Counter.start(20);
    const client = makeClient();
    const versions = Array.from({ length: 8 }, () => makeClient().version());
    await Promise.all([first.dump(client), second.dump(client), ...versions]);
    await Promise.all([first.restore(client), second.restore(client)]);
    expect(await first.counts()).toBe(true);
    expect(await second.counts()).toBe(true);
  });

  it('leaves no descriptor open', async () => {
    await using counter = await Counter.start();
    const client = makeClient();
    await client.check();
    const before = openDescriptors();
    await counter.dump(client);
    await counter.restore(client);
    await client.check();
    // Streams of ended children are closed a moment later.
    await vi.waitFor(() => expect(openDescriptors()).toBeLessThanOrEqual(before), { timeout: 10_000 });
  });
});

function openDescriptors(): number {
  return execFileSync('ls', [`/proc/${process.pid}/fd`], { encoding: 'utf8' })
    .trim()
    .split('\n').length;
}

async function gone(pid: number): Promise<void> {
  for (let round = 0; round < 200; round++) {
    const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : ' Z ';
    if (/ [ZX] /.test(stat)) return;
    await sleep(10);
  }
  throw new Error(`process ${pid} is still there`);
}

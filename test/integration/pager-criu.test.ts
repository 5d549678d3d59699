/** A real CRIU: its pages go into the store, and come back by the pager's files or when they are needed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeDescriptor } from '../../native/take-descriptor.ts';
import { commit, snapshotOf, stageOf } from '../support/page-store.ts';
import { buildPrograms, canPage, nativeFolder, PagerScene } from '../support/pager.ts';
import { Counter, canCheckpoint, makeClient } from './criu-fixture.ts';

/** Holds one end of a connection, of which the receiver has the other. */
const receiver = `
import os, socket, subprocess, sys
ours, theirs = socket.socketpair()
os.dup2(theirs.fileno(), 9)
program = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, pass_fds=[9])
theirs.close(); os.close(9)
program.stdin.write(b"go\\n"); program.stdin.flush()
sys.stderr.write(f"{ours.fileno()}\\n"); sys.stderr.flush()
sys.stdin.read()
ours.close()
sys.exit(program.wait())
`;

/** Dumps the counter; its pages go to the store, its other images where the counter has them. */
async function dump(counter: Counter, store: string): Promise<void> {
  const stage = stageOf(store, 'one');
  mkdirSync(stage, { recursive: true });
  const words = ['receive', '--socket', '9', '--store', store, '--stage', stage];
  const holder = spawn('python3', ['-c', receiver, join(nativeFolder, 'torpor-pages'), ...words], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const [fd] = (await once(holder.stderr, 'data')) as [Buffer];
  const ours = takeDescriptor(holder.pid ?? -1, Number(fd.toString()));
  await counter.dump(makeClient(), {}, { pageServer: { fd: ours } });
  closeSync(ours);
  holder.stdin.end();
  expect(await once(holder, 'exit')).toEqual([0, null]);
  cpSync(join(stage, 'images'), counter.imagesDir, { recursive: true });
  await commit(store, 'one');
}

describe.skipIf(!canPage || !canCheckpoint)('torpor-pager with CRIU', { timeout: 60_000 }, () => {
  let programs: string;
  beforeAll(() => {
    programs = buildPrograms();
  });
  afterAll(() => {
    rmSync(programs, { recursive: true, force: true });
  });

  it.each([{ lazyPages: true }, { lazyPages: false }])('resumes with %o', async ({ lazyPages }) => {
    await using counter = await Counter.start(64, 0, join(programs, 'counted'));
    const store = join(counter.folder, 'store');
    mkdirSync(store);
    await dump(counter, store);
    const before = counter.numbers()[0] ?? 0;
    expect(existsSync(join(counter.imagesDir, 'pages-1.img'))).toBe(false);

    // Beneath the images, and by links that do not leave it: CRIU opens pages also where it has another root.
    const mount = join(counter.imagesDir, 'pages');
    await using pager = PagerScene.behind(programs, {
      state: store,
      snapshot: snapshotOf(store, 'one'),
      mount,
    });
    await pager.start([], join(counter.imagesDir, 'lazy-pages.socket'));
    for (const name of readdirSync(mount)) symlinkSync(join('pages', name), join(counter.imagesDir, name));
    await counter.restore(makeClient(), {}, { lazyPages });
    expect(await counter.counts()).toBe(true);
    if (lazyPages) {
      // Some came because they were needed; the rest comes now.
      const { loadedBytes, totalBytes } = await pager.status();
      expect(totalBytes).toBeGreaterThan(10 << 20);
      expect(loadedBytes).toBeGreaterThan(0);
      await pager.ask(`load ${counter.root.pid}`);
      await pager.until(() => pager.hasEvent('complete'));
    }
    await pager.until(() => (counter.numbers()[0] ?? 0) > before + 40_000);
    expect(counter.numbers()[1]).toBe(0);
  });
});

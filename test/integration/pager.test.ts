/** `torpor-pager` and the reading half of `torpor-pages`, on real userfaultfds and a real mount. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killIfThere } from '../support/engine.ts';
import { buildPrograms, canPage, nativeFolder, PagerScene, type Scene } from '../support/pager.ts';

const small: Scene = { seed: 1, processes: 2, mappings: 3, pages: 700, codec: 'lz4' };
/** Enough that it is still being fetched while a test does something. */
const large: Scene = { seed: 2, processes: 2, mappings: 3, pages: 12_000, codec: 'zstd' };

function sha(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Ranges of a file that `unfetched` wrote. */
function readRanges(path: string): { dst: bigint; vaddr: bigint; pages: bigint; first: bigint }[] {
  const bytes = readFileSync(path);
  return Array.from({ length: bytes.length / 32 }, (_, index) => {
    const at = (field: number) => bytes.readBigUInt64LE(index * 32 + field * 8);
    return { dst: at(0), vaddr: at(1), pages: at(2), first: at(3) };
  });
}

describe.skipIf(!canPage)('torpor-pager', { timeout: 60_000 }, () => {
  let programs: string;
  beforeAll(() => {
    programs = buildPrograms();
  });
  afterAll(() => {
    rmSync(programs, { recursive: true, force: true });
  });

  it.each(['raw', 'lz4', 'zstd'] as const)(
    'answers faults from %s chunks, from many threads',
    async (codec) => {
      await using scene = new PagerScene(programs, { ...small, codec });
      await scene.start();
      await scene.run('verify', 8);
      await scene.ended();
      expect(scene.out).not.toContain('wrong');
      expect((await scene.status()).loadedBytes).toBe(2 * 3 * 700 * 4096);
    },
  );

  it('brings everything in the background, lets go and remembers what was needed first', async () => {
    await using scene = new PagerScene(programs, small);
    const workingSet = join(scene.folder, 'working-set');
    // Any nonsense is a hint.
    writeFileSync(workingSet, Buffer.from([1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 7]));
    await scene.start(['--working-set', workingSet]);
    await scene.run('verify');
    await scene.ask('load');
    await scene.ended();
    await scene.until(() => scene.hasEnded());
    expect(scene.exitCode).toBe(0);
    expect(scene.out).not.toContain('wrong');
    expect(scene.events.at(-1)).toEqual({ event: 'complete' });
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(scene.mount);
    expect(statSync(workingSet).size % 4).toBe(0);
    expect(statSync(workingSet).size).toBeGreaterThan(0);
    expect(readdirSync(scene.folder)).not.toContain('lazy');
  });

  it.each([11, 12, 13, 14, 15, 16])(
    'follows memory that is moved, unmapped, dropped, written and forked (seed %i)',
    async (seed) => {
      await using scene = new PagerScene(programs, { ...small, seed, codec: seed % 2 ? 'raw' : 'zstd' });
      await scene.start();
      await scene.run('change', 3);
      if (seed % 3) await scene.ask('load');
      await scene.ended();
      expect(scene.out).not.toContain('wrong');
      expect(scene.out).toContain('outlived');
      expect(scene.out.match(/^done/gm)).toHaveLength(2);
    },
  );

  it.each([21, 22, 23])('gives a child what another thread unmaps while it forks (seed %i)', async (seed) => {
    await using scene = new PagerScene(programs, { ...small, seed, processes: 1, mappings: 1, pages: 2000 });
    await scene.start();
    await scene.run('race');
    await scene.ended();
    expect(scene.out).not.toContain('wrong');
    expect(Number(/forked (\d+)/.exec(scene.out)?.[1])).toBeGreaterThan(1);
  });

  it('says what had not been fetched when it was held, and goes on', async () => {
    await using scene = new PagerScene(programs, large);
    await scene.start();
    const init = await scene.run('slow');
    await scene.ask(`load ${init}`);
    expect(await scene.ask('hold')).toEqual({ state: 'held' });
    // Stopped, as a frozen workload is.
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isIn(Number(name), init));
    for (const pid of processes) killIfThere(Number(pid), 'SIGSTOP');
    const file = join(scene.folder, 'unfetched');
    const { ranges, pages } = (await scene.ask(`unfetched ${file}`)) as { ranges: number; pages: number };
    const listed = readRanges(file);
    expect(listed).toHaveLength(ranges);
    expect(listed.reduce((sum, { pages: count }) => sum + Number(count), 0)).toBe(pages);
    const { loadedBytes, totalBytes } = await scene.status();
    // Faults that were under way are answered still.
    expect(totalBytes - loadedBytes).toBeLessThanOrEqual(pages * 4096);
    expect(pages).toBeGreaterThan(0);
    expect(listed).toEqual([...listed].sort((a, b) => Number(a.dst - b.dst) || (a.vaddr < b.vaddr ? -1 : 1)));
    for (const { dst } of listed) expect([(1000n << 8n) | 1n, (1001n << 8n) | 1n]).toContain(dst);
    for (const pid of processes) killIfThere(Number(pid), 'SIGCONT');
    expect(await scene.ask('finish')).toEqual({ state: 'complete' });
    await scene.until(() => scene.hasEnded());
    expect(scene.out).not.toContain('wrong');
  });

  it('names a damaged chunk, leaves what needs it waiting, and serves the rest', async () => {
    await using scene = new PagerScene(programs, small);
    const pack = scene.packs[0] ?? '';
    const bytes = readFileSync(pack);
    const at = Math.floor(bytes.length / 2);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(pack, bytes);
    await scene.start();
    const init = await scene.run('slow');
    await scene.ask(`load ${init}`);
    await scene.until(() => scene.hasEvent('failed'));
    const { what } = scene.events.find(({ event }) => event === 'failed') as { what: string };
    expect(what).toMatch(/^chunk [0-9a-f]{64} .*[0-9a-f]{32}\.pack at offset \d+: .*damaged$/);
    await scene.until(async () => {
      const { loadedBytes, totalBytes } = await scene.status();
      return totalBytes - loadedBytes <= 16 * 4096 && totalBytes > loadedBytes;
    });
    expect((await scene.status()).state).toBe('failed');
    expect(scene.hasEnded()).toBe(false);
    expect(scene.out).not.toContain('wrong');
    // What waits is ended with it.
    expect(await scene.ask('end')).toEqual({ state: 'ended' });
    expect(existsSync(`/proc/${init}/exe`)).toBe(false);

    const found = await scene.pages('verify', '--snapshot', scene.snapshot, '--read-data');
    expect(found).toMatchObject({ event: 'error', code: 'EBADMSG' });
    expect(found.what).toMatch(/[0-9a-f]{32}\.pack at offset \d+/);
    expect(await scene.pages('verify', '--snapshot', scene.snapshot)).toMatchObject({ event: 'done' });
    expect(await scene.pages('check-packs', '--read-data')).toMatchObject({ event: 'error' });
  });

  it('gives the files of pages, the same as torpor-pages does', async () => {
    await using scene = new PagerScene(programs, { ...small, pages: 3000, codec: 'zstd' });
    await scene.start();
    expect(readdirSync(scene.mount).sort()).toEqual(['pages-1.img', 'pages-2.img']);
    for (const id of [1, 2]) {
      const path = join(scene.mount, `pages-${id}.img`);
      const whole = readFileSync(path);
      const words = ['cat', '--store', scene.state, '--snapshot', scene.snapshot, '--pages-id', String(id)];
      const cat = execFileSync(join(nativeFolder, 'torpor-pages'), words, { maxBuffer: 1 << 28 });
      expect(whole.length).toBe(3 * 3000 * 4096);
      expect(sha(whole)).toBe(sha(cat));
      // Also from the middle, and in odd pieces.
      const part = execFileSync('dd', [`if=${path}`, 'bs=10007', 'skip=7', 'count=99', 'status=none'], {
        maxBuffer: 1 << 24,
      });
      expect(part.equals(whole.subarray(7 * 10007, 106 * 10007))).toBe(true);
    }
    expect(() => readFileSync(join(scene.mount, 'pages-3.img'))).toThrow('ENOENT');
    expect(() => writeFileSync(join(scene.mount, 'pages-1.img'), '')).toThrow('EROFS');
    // A worker that dies in the middle of a read is replaced, and the reader gets all of it.
    const reading = scene.run('verify');
    const hash = sha(readFileSync(join(scene.mount, 'pages-1.img')));
    for (const pid of scene.helpers('w')) killIfThere(pid);
    expect(sha(readFileSync(join(scene.mount, 'pages-1.img')))).toBe(hash);
    await reading;
    await scene.ended();
    expect(scene.out).not.toContain('wrong');
    expect(await scene.pages('verify', '--snapshot', scene.snapshot, '--read-data')).toMatchObject({
      event: 'done',
    });
    expect(await scene.pages('check-packs', '--read-data')).toMatchObject({ event: 'done' });
  });

  it('goes on where packs are removed, and uses less memory than 64 MiB', async () => {
    await using scene = new PagerScene(programs, large);
    await scene.start();
    for (const pack of scene.packs) rmSync(pack);
    const init = await scene.run('slow');
    await scene.ask(`load ${init}`);
    const most = Math.max(...[scene.pid, ...scene.helpers('w')].map(anonymousMebibytes));
    await scene.until(() => scene.hasEvent('complete'));
    expect(most).toBeLessThan(64);
    expect(scene.out).not.toContain('wrong');
  });

  it('refuses what it does not understand', async () => {
    await using scene = new PagerScene(programs, small);
    await scene.start();
    expect(await scene.ask('unfetched /tmp/x')).toHaveProperty('error');
    expect(await scene.ask('nonsense')).toHaveProperty('error');
    expect(await scene.ask('load 4194303')).toHaveProperty('error');
    expect(await scene.ask('status')).toMatchObject({ state: 'waiting' });
    const words = ['--store', scene.state, '--snapshot', scene.folder, '--mount', scene.mount];
    expect(() => execFileSync(join(nativeFolder, 'torpor-pager'), words)).toThrow();
  });
});

function anonymousMebibytes(pid: number): number {
  return Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Whether a process is in the pid namespace that another is the init of. */
function isIn(pid: number, init: number): boolean {
  try {
    const parent = Number(/PPid:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    return parent === init || (parent > 1 && isIn(parent, init));
  } catch {
    return false;
  }
}

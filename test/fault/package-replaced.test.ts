/** Packages are upgraded and removed under suspended applications by the real dpkg: they go on with what they had. */
import { execFile, execFileSync } from 'node:child_process';
import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DoctorCheck, Finding, Snapshot } from '../../api/types.ts';
import { findInstallation } from '../../engine/installation.ts';
import { canCheckpoint } from '../integration/criu-fixture.ts';
import { DebPackage } from '../support/deb-package.ts';
import { TestEngine } from '../support/engine.ts';
import { typeInShell } from '../support/job.ts';
import { makeUser } from '../support/users.ts';
import { expectSentence, expectTidy } from './scene.ts';

const { keep } = findInstallation();

interface Resumed {
  findings: Finding[];
}

describe.skipIf(!canCheckpoint)('a package is replaced', { timeout: 240_000 }, () => {
  let folder: string;
  let said: string;
  beforeEach(async () => {
    folder = await mkdtemp('/var/tmp/torpor-package-');
    said = join(folder, 'said');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const lines = async () => (await readFile(said, 'utf8').catch(() => '')).split('\n').filter(Boolean);

  /** Waits for it to say more, and takes what it has said since the last time. */
  async function says(): Promise<string[]> {
    const before = (await lines()).length;
    await vi.waitFor(async () => expect((await lines()).length).toBeGreaterThan(before + 2), {
      timeout: 15_000,
      interval: 50,
    });
    return [...new Set((await lines()).slice(before))];
  }

  const hookOf = (engine: TestEngine) => `${keep} ${engine.paths.stateDir} || true`;
  const folderOfKept = (engine: TestEngine) => join(engine.paths.stateDir, 'kept-files');
  /** What of version 1 is kept. */
  const keptOf = async (deb: DebPackage, engine: TestEngine) => {
    const names = new Set(await readdir(folderOfKept(engine)));
    return (await deb.hashes(1)).filter((name) => names.has(name));
  };
  const findingsOn = (name: string, { findings }: Resumed) =>
    findings.filter(({ what }) => what.includes(name));
  const startNew = async (program: string) => (await promisify(execFile)(program)).stdout.trim();
  const untilKept = (deb: DebPackage, engine: TestEngine, count: number) =>
    vi.waitFor(async () => expect(await keptOf(deb, engine)).toHaveLength(count), {
      timeout: 15_000,
      interval: 100,
    });

  it('upgrades under a capsule, again and again', async () => {
    await using deb = await DebPackage.create();
    await using engine = await TestEngine.create();
    await deb.install(1);
    const { id } = await engine.start([deb.program, said], '--name', 'teller');
    expect(await says()).toEqual(['1 1']);
    await engine.json('suspend', id);
    expect(await deb.install(2, hookOf(engine))).not.toContain('torpor:');

    const resumed = await engine.json<Resumed>('resume', id);
    expect(await says()).toEqual(['1 1']);
    expect(await startNew(deb.program)).toBe('2 2');
    expect(findingsOn(deb.name, resumed)).toEqual([
      expect.objectContaining({
        verdict: 'degraded',
        what: `The package ${deb.name} (now 2) was replaced after teller was suspended; it goes on with the 2 files it had of the earlier one.`,
        hint: expect.stringContaining('start it anew when convenient'),
      }),
    ]);

    // What it has mapped now is what was kept; the snapshot that it came from goes.
    const [first] = await engine.snapshots();
    await engine.json('suspend', id);
    await engine.json('rm', first?.id ?? '');
    await deb.install(3, hookOf(engine));
    const again = await engine.json<Resumed>('resume', id);
    expect(await says()).toEqual(['1 1']);
    expect(findingsOn(deb.name, again)).toEqual([]);
    expect(await startNew(deb.program)).toBe('3 3');

    // While it runs without any snapshot, what it has mapped stays.
    for (const { id: snapshot } of await engine.snapshots()) await engine.json('rm', snapshot);
    await engine.json('gc');
    await untilKept(deb, engine, 2);
    await engine.json('suspend', id);
    await engine.json('resume', id);
    expect(await says()).toEqual(['1 1']);
    for (const { id: snapshot } of await engine.snapshots()) await engine.json('rm', snapshot);
    await engine.json('end', id);
    await untilKept(deb, engine, 0);
  });

  it('upgrades under a job, whose program has a set-user-id bit, and is killed in the middle', async () => {
    await using deb = await DebPackage.create(0o4755);
    await using engine = await TestEngine.create();
    await deb.install(1);
    await using job = await typeInShell(`${deb.program} ${said}`);
    expect(await says()).toEqual(['1 1']);
    const { workload: id } = await engine.json<{ workload: string }>('suspend', String(job.pid));
    const out = await deb.install(2, hookOf(engine));
    expect(out).not.toContain('torpor:');
    const kept = await keptOf(deb, engine);
    expect(kept).toHaveLength(2);
    for (const name of kept) expect(statSync(join(folderOfKept(engine), name)).mode & 0o7000).toBe(0);

    const resumed = await engine.json<Resumed>('resume', id);
    expect(await says()).toEqual(['1 1']);
    expect(findingsOn(deb.name, resumed)).toHaveLength(1);
    await engine.json('suspend', id);
    await deb.install(3, hookOf(engine));
    await engine.json('resume', id);
    expect(await says()).toEqual(['1 1']);
    await engine.kill();
    await engine.json('suspend', id);
    await engine.json('resume', id);
    expect(await says()).toEqual(['1 1']);
    await engine.json('end', id);
  });

  it.each(['capsule', 'job'])('upgrades under a %s that runs on, and has a snapshot', async (kind) => {
    await using deb = await DebPackage.create();
    await using engine = await TestEngine.create();
    await deb.install(1);
    await using job = kind === 'job' ? await typeInShell(`${deb.program} ${said}`) : undefined;
    const target = job ? String(job.pid) : (await engine.start([deb.program, said], '--name', 'teller')).id;
    expect(await says()).toEqual(['1 1']);
    const { workload: id } = await engine.json<Snapshot>('suspend', '--leave-running', target);
    await deb.install(2, hookOf(engine));
    expect(await keptOf(deb, engine)).toHaveLength(2);

    // As often as wanted, from either snapshot, and without the one that the files were kept for.
    const { id: second } = await engine.json<Snapshot>('suspend', id);
    for (let time = 1; time <= 2; time++) {
      await engine.json('resume', second);
      expect(await says()).toEqual(['1 1']);
      await engine.json('suspend', id);
    }
    for (const snapshot of (await engine.snapshots()).slice(1)) await engine.json('rm', snapshot.id);
    await engine.json('gc');
    await deb.install(3, hookOf(engine));
    await engine.json('resume', id);
    expect(await says()).toEqual(['1 1']);
    await engine.json('end', id);
    for (const { id: snapshot } of await engine.snapshots()) await engine.json('rm', snapshot);
    expect((await readdir(deb.folder)).sort()).toEqual(['libteller.so.1', 'teller']);
  });

  it('upgrades under two that have the same, one of them suspended', async () => {
    await using deb = await DebPackage.create();
    await using engine = await TestEngine.create();
    await deb.install(1);
    const other = join(folder, 'other');
    const told = async () => (await readFile(other, 'utf8')).length;
    const { id: one } = await engine.start([deb.program, said], '--name', 'one');
    const { id: two } = await engine.start([deb.program, other], '--name', 'two');
    await says();
    await engine.json('suspend', one);
    await deb.install(2, hookOf(engine));
    // It has what was kept, and the other one what it was kept from.
    await engine.json('resume', one);
    for (const id of [two, one]) await engine.json('suspend', id);
    await deb.install(3, hookOf(engine));
    for (const id of [one, two]) await engine.json('resume', id);
    expect(await says()).toEqual(['1 1']);
    const before = await told();
    await vi.waitFor(async () => expect(await told()).toBeGreaterThan(before), { timeout: 15_000 });
    expect(await readFile(other, 'utf8')).toMatch(/^(1 1\n)*$/);
    expect((await readdir(deb.folder)).sort()).toEqual(['libteller.so.1', 'teller']);
    for (const id of [one, two]) await engine.json('end', id);
  });

  it('removes a library, and refuses where what was kept is damaged', async () => {
    await using deb = await DebPackage.create();
    await using engine = await TestEngine.create();
    await deb.install(1);
    const { id } = await engine.start([deb.program, said], '--name', 'teller');
    await says();
    await engine.json('suspend', id);
    await deb.install(2, hookOf(engine), { withLibrary: false });

    const [, library = ''] = await deb.hashes(1);
    const kept = join(folderOfKept(engine), library);
    const whole = readFileSync(kept);
    appendFileSync(kept, 'x');
    const refused = await engine.run(['resume', id]);
    expectSentence(refused, 3, new RegExp(`${deb.library} was removed after teller was suspended`));
    await expectTidy(engine);
    expect(await startNew(deb.program).catch(() => 'lacks the library')).toBe('lacks the library');

    execFileSync('truncate', ['-s', String(whole.length), kept]);
    const resumed = await engine.json<Resumed>('resume', id);
    const removed = `${deb.library} was removed after teller was suspended; it goes on with the one it had.`;
    expect(
      findingsOn(deb.name, resumed)
        .map(({ what }) => what)
        .sort(),
    ).toEqual([
      removed,
      expect.stringContaining('(now 2) was replaced after teller was suspended; it goes on with the file'),
    ]);
    expect(await says()).toEqual(['1 1']);
  });

  it('exports nothing that could not go on elsewhere, and says so', async () => {
    await using deb = await DebPackage.create();
    await using engine = await TestEngine.create();
    await deb.install(1);
    await using user = await makeUser('torpor-keep-0', 21520);
    said = join(user.home, 'said');
    const { uid } = user;
    // Only root starts an engine.
    await engine.json('ps');
    const started = await engine.run(['run', '--name', 'teller', '--', deb.program, said], { uid });
    expect(started.code, started.stderr).toBe(0);
    const id = 'teller';
    await says();
    await engine.json('suspend', id);
    await deb.install(2, hookOf(engine));
    const bundle = join(folder, 'bundle');
    const input = 'correct horse battery staple\n';
    const before = await engine.run(['export', id, bundle], { input });
    expectSentence(before, 3, /was changed after it was suspended: on another machine it could not go on/);
    await engine.json('resume', id);
    await engine.json('suspend', id);
    const after = await engine.run(['export', id, bundle], { input });
    expectSentence(after, 3, /teller goes on with files of packages that were replaced/);
  });

  it('keeps them by what doctor says, without a word to dpkg', async () => {
    await using deb = await DebPackage.create();
    await using engine = await TestEngine.create();
    const check = async () => {
      const { stdout } = await engine.run(['doctor', '--json']);
      return (JSON.parse(stdout) as DoctorCheck[]).find(({ name }) => name === 'kept-files');
    };
    const lacking = await check();
    expect(lacking).toMatchObject({ status: 'warning', found: expect.stringContaining('does not start') });
    const settings = /> (\/etc\/dpkg\/dpkg\.cfg\.d\/torpor-\w+)$/.exec(lacking?.fix ?? '')?.[1] ?? '';
    try {
      execFileSync('sh', ['-c', lacking?.fix ?? 'false']);
      expect(await check()).toMatchObject({ status: 'ok' });
      await deb.install(1);
      const { id } = await engine.start([deb.program, said], '--name', 'teller');
      await says();
      await engine.json('suspend', id);
      await deb.install(2);
      await engine.json('resume', id);
      expect(await says()).toEqual(['1 1']);
      await engine.json('end', id);
    } finally {
      await rm(settings, { force: true });
    }
    expect(await check()).toMatchObject({ status: 'warning' });
  });

  it('goes on with a copy where the state folder is on another file system', async () => {
    const image = join(folder, 'image');
    const mount = join(folder, 'mount');
    const stateDir = join(mount, 'state');
    execFileSync('truncate', ['-s', '4G', image]);
    execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=1', image]);
    await mkdir(mount);
    execFileSync('mount', ['-o', 'loop', image, mount]);
    await mkdir(stateDir);
    try {
      await using deb = await DebPackage.create();
      await using engine = await TestEngine.create({ stateDir });
      await deb.install(1);
      const { id } = await engine.start([deb.program, said], '--name', 'teller');
      await says();
      await engine.json('suspend', id);
      expect(await deb.install(2, hookOf(engine))).not.toContain('torpor:');
      const resumed = await engine.json<Resumed>('resume', id);
      expect(findingsOn(deb.name, resumed)).toHaveLength(1);
      expect(await says()).toEqual(['1 1']);
      await engine.json('end', id);
    } finally {
      execFileSync('umount', ['-l', mount]);
    }
  });

  it('refuses as before where a capsule does not reach what was kept', async () => {
    const mount = join(folder, 'mount');
    const stateDir = join(mount, 'state');
    await mkdir(mount);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3g', 'tmpfs', mount]);
    await mkdir(stateDir);
    try {
      await using deb = await DebPackage.create();
      await using engine = await TestEngine.create({ stateDir });
      await deb.install(1);
      const { id } = await engine.start([deb.program, said], '--name', 'teller');
      await says();
      await engine.json('suspend', id);
      await deb.install(2, hookOf(engine));
      expect(await keptOf(deb, engine)).toHaveLength(2);
      const refused = await engine.run(['resume', id]);
      expectSentence(refused, 3, /was replaced after teller was suspended/);
      await expectTidy(engine);
    } finally {
      execFileSync('umount', ['-l', mount]);
    }
  });

  it('upgrades the machine under what came with a bundle', async () => {
    await using deb = await DebPackage.create();
    await using user = await makeUser('torpor-keep-1', 21521);
    await using home = await TestEngine.create();
    await using away = await TestEngine.create();
    await deb.install(1);
    said = join(user.home, 'said');
    const bundle = join(folder, 'bundle');
    const input = 'correct horse battery staple\n';
    const { id } = await home.start([deb.program, said], '--name', 'teller', '--user', user.name);
    await says();
    const exported = await home.run(['export', id, bundle], { input });
    expect(exported.code, exported.stderr).toBe(0);
    const imported = await away.run(['import', '--json', '--user', user.name, bundle], { input });
    expect(imported.code, imported.stdout + imported.stderr).toBe(0);
    await deb.install(2, hookOf(away));
    const resumed = await away.json<Resumed>('resume', 'teller');
    expect(findingsOn(deb.name, resumed)).toHaveLength(1);
    const inside = async () => {
      const { stdout } = await away.run(['exec', 'teller', '--', 'tail', '-n', '1', said]);
      return stdout.trim();
    };
    expect(await inside()).toBe('1 1');
    await away.json('suspend', 'teller');
    await deb.install(3, hookOf(away));
    await away.json('resume', 'teller');
    expect(await inside()).toBe('1 1');
    await away.json('end', 'teller');
  });
});

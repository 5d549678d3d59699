/** Plugins in cgroups of their own, as far as this machine has them: they end whole, and meet limits that are theirs alone. */
import { existsSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { PluginReport } from '../../api/types.ts';
import { readMounts } from '../../engine/mounts.ts';
import { pluginHierarchies } from '../../engine/plugin-host/plugin-cgroups.ts';
import { isThere, TestEngine } from '../support/engine.ts';
import { TestPlugins } from '../support/plugins.ts';

const a = 'org.example.A';
const b = 'org.example.B';
const mounts = await readMounts();
const hierarchies = pluginHierarchies(mounts);
/** Whether what is made below a mount has such a file. */
const canLimit = (controller: string, mountPoint: string) =>
  readIfThere(join(mountPoint, 'cgroup.subtree_control')).split(/\s/).includes(controller) ||
  mounts.some(
    ({ path, superOptions }) => path === mountPoint && superOptions.split(',').includes(controller),
  );
const has = (controller: string) => hierarchies.some(({ mountPoint }) => canLimit(controller, mountPoint));

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

async function scene(prefix: string[] = []) {
  const plugins = await TestPlugins.create();
  const engine = await TestEngine.create({ env: plugins.env, prefix });
  const report = async () => JSON.parse((await engine.run(['plugins', '--json'])).stdout) as PluginReport;
  return {
    plugins,
    engine,
    report,
    /** A plugin that is a shell script. */
    script: async (name: string, text: string) => {
      await writeFile(join(plugins.folder, `${name}.sh`), text);
      await plugins.write(name, `[D-BUS Service]\nName=${name}\nExec=/bin/sh ${plugins.folder}/${name}.sh`);
    },
    problem: async (name: string) => (await report()).plugins.find((each) => each.name === name)?.problem,
    noted: async (file: string) => Number(await readFile(join(plugins.folder, file), 'utf8').catch(() => 0)),
    cgroups: () =>
      hierarchies
        .map(({ mountPoint }) => join(mountPoint, `torpor-${engine.paths.tag}-plugins`))
        .filter((path) => existsSync(path)),
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]();
      await plugins[Symbol.asyncDispose]();
    },
  };
}

type Scene = Awaited<ReturnType<typeof scene>>;

/** One that starts a program in a session of its own, and notes its pid. */
const withGrandchild = ({ plugins, script }: Scene) =>
  script(
    a,
    `setsid sh -c 'echo $$ >"$1/left"; exec sleep 100000' sh ${plugins.folder} &
exec ${plugins
      .command(a)
      .map((word) => `'${word}'`)
      .join(' ')}`,
  );

describe.skipIf(hierarchies.length === 0)('a plugin in a cgroup of its own', () => {
  it.each<NodeJS.Signals>(['SIGTERM', 'SIGKILL'])(
    'ends with all that it has started when its engine gets %s',
    async (signal) => {
      await using s = await scene();
      await withGrandchild(s);
      expect(await s.problem(a)).toBeUndefined();
      await expect.poll(() => s.noted('left')).toBeGreaterThan(0);
      const left = await s.noted('left');
      expect(isThere(left)).toBe(true);
      await s.engine.kill(signal);
      // After a crash it is the next engine that finds it.
      if (signal === 'SIGKILL') await s.engine.json('ps');
      else expect(s.cgroups()).toEqual([]);
      await expect.poll(() => isThere(left)).toBe(false);
    },
  );

  it('ends with all that it has started when it ends by itself', async () => {
    await using s = await scene();
    await withGrandchild(s);
    expect(await s.problem(a)).toBeUndefined();
    await expect.poll(() => s.noted('left')).toBeGreaterThan(0);
    const log = (await s.engine.logTail(50)).split('\n');
    const { pid } = JSON.parse(
      log.findLast((line) => line.includes(a) && line.includes('plugin registered')) ?? '{}',
    );
    process.kill(pid as number, 'SIGKILL');
    const left = await s.noted('left');
    await expect.poll(() => isThere(left)).toBe(false);
  });

  it.skipIf(!has('pids'))('that forks without end meets its own limit, and others go on', async () => {
    await using s = await scene();
    const { folder } = s.plugins;
    await s.script(a, `n=0; while :; do sleep 100000 & n=$((n+1)); echo $n >${folder}/count; done`);
    await s.plugins.add(b);
    expect(await s.problem(a)).toMatch(/ended with status \d+: .*fork/i);
    expect(await s.noted('count')).toBeLessThan(600);
    expect(await s.problem(b)).toBeUndefined();
    await s.engine.kill('SIGTERM');
    expect(s.cgroups()).toEqual([]);
  });

  it.skipIf(!has('memory'))('that takes all memory is ended, and others go on', async () => {
    await using s = await scene();
    await s.script(a, `exec python3 -c 'all = [bytearray(b"x" * (1 << 26)) for _ in range(64)]'`);
    await s.plugins.add(b);
    expect(await s.problem(a)).toMatch(/was ended by SIGKILL/);
    expect(await s.problem(b)).toBeUndefined();
  });
});

describe('a plugin', () => {
  it('works also where no cgroup can be written', async () => {
    const readOnly = hierarchies.map(({ mountPoint }) => `mount -o remount,bind,ro ${mountPoint}`);
    await using s = await scene(['unshare', '-m', 'sh', '-c', [...readOnly, 'exec "$@"'].join(' && '), 'sh']);
    await s.plugins.add(a);
    expect(await s.problem(a)).toBeUndefined();
    expect(s.cgroups()).toEqual([]);
  });
});

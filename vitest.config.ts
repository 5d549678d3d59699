/** Tests in tiers. All use real parts; those that start capsules run one file at a time, so that times mean something. */
import { defineConfig } from 'vitest/config';

const tier = (name: string, testTimeout: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout,
    hookTimeout: 120_000,
    // A second, which is the default, is not enough on a machine with something else to do.
    expect: { poll: { timeout: 20_000 } },
    fileParallelism: false,
    pool: 'forks' as const,
    // Of the tests of a file that are made for it: they mostly wait, and each has an engine of its own.
    maxConcurrency: 2,
  },
});

export default defineConfig({
  test: {
    projects: [
      tier('unit', 20_000),
      tier('integration', 120_000),
      tier('e2e', 240_000),
      tier('fault', 240_000),
      // On a virtual machine, whose software emulation is slow.
      tier('vm', 600_000),
      // One plugin, that somebody names: scripts/test-plugin.ts.
      ...(process.env.TORPOR_TEST_PLUGIN ? [tier('plugin', 120_000)] : []),
    ],
    // One worker: engines, X servers and CRIU share the machine's two cores and its process table.
    maxWorkers: 1,
  },
});

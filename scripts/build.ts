/** Bundles the programs into `build/`: one file each, so that they start quickly and can be installed by copying. */
import { writeFile } from 'node:fs/promises';
import { build } from 'esbuild';
import { buildRenderer } from './build-renderer.ts';

await build({
  entryPoints: { torpor: 'cli/torpor.ts', torpord: 'engine/torpord.ts' },
  outdir: 'build',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: true,
  // koffi loads its native part from its own folder; pino's transports are not used.
  external: ['koffi'],
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
await buildRenderer();
await writeFile('build/.built', '');

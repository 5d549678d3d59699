/** Bundles the programs into `build/`: one file each, so that they start quickly and can be installed by copying. */
import { copyFile, cp, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { buildIcons } from './build-icons.ts';
import { buildRenderer } from './build-renderer.ts';
import { program as bundle } from './bundle.ts';

const program = { ...bundle, outdir: 'build' };

await build({
  ...program,
  entryPoints: {
    torpor: 'cli/torpor.ts',
    torpord: 'engine/torpord.ts',
    'torpor-terminal': 'engine/terminal/main.ts',
    'torpor-app': 'main/start.ts',
    'torpor-bundle': 'engine/bundle/medium/main.ts',
  },
});
await build({
  ...program,
  entryPoints: { 'torpor-audio': 'plugins/audio/main.ts', 'plugins/bridge': 'plugins/bridge/main.ts' },
});
await copyServiceFiles();
await cp('packaging/portable', 'build/portable', { recursive: true });
await build({
  ...program,
  entryPoints: { 'electron/main': 'main/shells/electron/main.ts' },
  target: 'node24',
  external: ['electron'],
});
// A sandboxed preload script is CommonJS whatever the rest is.
await build({
  ...program,
  entryPoints: { 'electron/preload': 'main/shells/electron/preload.ts' },
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  banner: {},
  external: ['electron'],
});
await buildIcons();
await buildRenderer();
await writeFile('build/.built', '');

/** As they are: what is built here may run elsewhere, so that the engine fills in where it is. */
async function copyServiceFiles(): Promise<void> {
  const folder = 'plugins/services';
  for (const file of await readdir(folder)) await copyFile(join(folder, file), join('build/plugins', file));
}

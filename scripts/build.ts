/** Bundles the programs into `build/`: one file each, so that they start quickly and can be installed by copying. */
import { mkdir, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
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
    'torpor-audio': 'plugins/audio/main.ts',
  },
});
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
// Plugins of Torpor's own: files by which the engine starts them, which name programs by absolute paths.
await mkdir('build/plugins', { recursive: true });
const audio = [process.execPath, resolve('build/torpor-audio.mjs')].map((word) => `"${word}"`).join(' ');
await writeFile(
  'build/plugins/io.github.torpor.Audio.service',
  `[D-BUS Service]\nName=io.github.torpor.Audio\nExec=${audio}\nX-Torpor-Resident=true\n`,
);
await buildIcons();
await buildRenderer();
await writeFile('build/.built', '');

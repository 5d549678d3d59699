/**
 * Bundles the windows' page into `build/renderer/`: `index.html`, `app.js` with the parts that are loaded later beside
 * it, and `app.css`. Nothing is inline, as the content security policy demands.
 */
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { build } from 'esbuild';

const out = 'build/renderer';

export async function buildRenderer(): Promise<void> {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await build({
    entryPoints: { app: 'renderer/main.tsx' },
    outdir: out,
    bundle: true,
    format: 'esm',
    splitting: true,
    chunkNames: 'part-[hash]',
    platform: 'browser',
    target: ['chrome120', 'firefox121'],
    jsx: 'automatic',
    minify: true,
    sourcemap: true,
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'warning',
  });
  await copyFile('renderer/index.html', `${out}/index.html`);
  await copyFile('main/assets/torpor.svg', `${out}/icon.svg`);
}

/**
 * Builds a plugin in TypeScript, a folder with a `main.ts` and a `NAME.service`, into one file with its service file
 * beside it: `npm run build:plugin -- FOLDER [TARGET]`. The target is where the engine looks for the user's own plugins.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';
import { program } from './bundle.ts';

const [source, target = join(homedir(), '.local/share/torpor/plugins')] = process.argv.slice(2);

async function main(): Promise<void> {
  const files = source === undefined ? [] : await readdir(source).catch(() => []);
  const service = files.find((name) => name.endsWith('.service'));
  if (source === undefined || service === undefined || !files.includes('main.ts'))
    throw new Error(
      'usage: npm run build:plugin -- FOLDER [TARGET]: FOLDER has a main.ts and a NAME.service',
    );
  const folder = resolve(target);
  const name = basename(service, '.service');
  await mkdir(folder, { recursive: true });
  await build({
    ...program,
    entryPoints: { [name]: join(source, 'main.ts') },
    outdir: folder,
    sourcemap: false,
  });
  const text = await readFile(join(source, service), 'utf8');
  const filled = text.replaceAll('@NODE@', process.execPath).replaceAll('@FOLDER@', folder);
  await writeFile(join(folder, service), filled);
  process.stdout.write(`${join(folder, service)}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});

/**
 * Puts a plugin through the conformance suite (test/plugin): `npm run test:plugin -- BUSNAME | --file PATH
 * [--user USER]`. Needs root, as the engine does; the plugin runs as USER, by default as who has called sudo.
 */
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

const usage = `usage: npm run test:plugin -- BUSNAME [--user USER]
       npm run test:plugin -- --file PATH [--user USER]

Checks a plugin by the rules of docs/plugins.md: the one of this name that the engine finds for USER, or the one of a
service file. It is started, called for an application and a job of its own, and its engine is killed.`;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { file: { type: 'string' }, user: { type: 'string' }, help: { type: 'boolean' } },
  });
  const [name, ...more] = positionals;
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  if (more.length > 0 || (name === undefined) === (values.file === undefined)) throw new Error(usage);
  if (process.getuid?.() !== 0)
    throw new Error('The suite starts an engine, which must run as root. Start it with sudo.');
  const { status } = spawnSync(
    'npx',
    ['vitest', 'run', '--project', 'plugin', '--reporter', 'test/plugin/reporter.ts'],
    {
      stdio: 'inherit',
      cwd: new URL('..', import.meta.url).pathname,
      env: {
        ...process.env,
        TORPOR_TEST_PLUGIN: name ?? resolve(process.env.INIT_CWD ?? '', values.file ?? ''),
        TORPOR_TEST_PLUGIN_USER: values.user ?? process.env.SUDO_USER ?? 'root',
      },
    },
  );
  return status ?? 1;
}

try {
  process.exitCode = main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}

/**
 * Puts a plugin through the conformance suite (test/plugin): `npm run test:plugin -- BUSNAME | --file PATH [OPTIONS]`.
 * Needs root, as the engine does; the plugin runs as a user, by default as who has called sudo.
 */
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Given } from '../test/plugin/surroundings.ts';

const usage = `usage: npm run test:plugin -- BUSNAME [OPTIONS]
       npm run test:plugin -- --file PATH [OPTIONS]

Checks a plugin by the rules of docs/plugins.md: the one of this name that the engine finds for the user, or the one of a
service file. It is started, called for an application and a job of its own, and its engine is killed.

  --application CMD  what runs in the capsule, and goes on; without it nothing that a plugin could see to
  --prepare CMD      is run once that runs, and before the plugin is called for it
  --held CMD         prints what the application holds outside, always in the same words, and nothing where it has let
                     go; only with it can be seen whether the plugin lets go and brings back
  --env NAME=VALUE   for the session of the user, so for the plugin, the application and these commands; may be repeated
  --user USER        whose plugin it is; otherwise who has called sudo

CMD is a line of sh and runs as the user. --prepare and --held have TORPOR_WORKLOAD, the id of the application, and
TORPOR_RUN_FOLDER, which is /run/torpor inside.`;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      file: { type: 'string' },
      application: { type: 'string' },
      prepare: { type: 'string' },
      held: { type: 'string' },
      env: { type: 'string', multiple: true, default: [] },
      user: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  const [name, ...more] = positionals;
  if (values.help) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  if (more.length > 0 || (name === undefined) === (values.file === undefined)) throw new Error(usage);
  const { file, user, application, prepare, held, env } = values;
  const wrong = env.find((each) => !/^[A-Za-z_][A-Za-z0-9_]*=/.test(each));
  if (wrong !== undefined) throw new Error(`--env ${wrong} is not of the form NAME=VALUE.`);
  if (held !== undefined && application === undefined && prepare === undefined)
    throw new Error(
      '--held needs --application or --prepare: an application that does nothing holds nothing.',
    );
  const given: Given = {
    plugin: name ?? resolve(process.env.INIT_CWD ?? '', file ?? ''),
    user: user ?? process.env.SUDO_USER ?? 'root',
    env,
    ...(application === undefined ? {} : { application }),
    ...(prepare === undefined ? {} : { prepare }),
    ...(held === undefined ? {} : { held }),
  };
  if (process.getuid?.() !== 0)
    throw new Error('The suite starts an engine, which must run as root. Start it with sudo.');
  const { status } = spawnSync(
    'npx',
    ['vitest', 'run', '--project', 'plugin', '--reporter', 'test/plugin/reporter.ts'],
    {
      stdio: 'inherit',
      cwd: new URL('..', import.meta.url).pathname,
      env: { ...process.env, TORPOR_TEST_PLUGIN: JSON.stringify(given) },
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

/** The `torpor` command: finds the subcommand, runs it, and turns what it throws into a sentence and an exit code. */
import type { EngineClient } from '../api/client.ts';
import { exitCodes, sentenceOf, TorporError } from '../api/errors.ts';
import { reachEngine } from '../api/reach.ts';
import { version } from '../package.json';
import { attach } from './commands/attach.ts';
import { exportBundle, importBundle } from './commands/bundles.ts';
import { demo } from './commands/demo.ts';
import { encryption } from './commands/encryption.ts';
import { exec, screenshot, windows } from './commands/inside.ts';
import { kexec } from './commands/kexec.ts';
import { doctor, documentation } from './commands/machine.ts';
import { memory, nap, wake } from './commands/naps.ts';
import { plugins } from './commands/plugins.ts';
import { profiles } from './commands/profiles.ts';
import { session } from './commands/session.ts';
import { keep, rm, snapshots, verify } from './commands/snapshots.ts';
import { gc, settings } from './commands/store.ts';
import { resume, suspend } from './commands/suspend-resume.ts';
import { ui } from './commands/ui.ts';
import { end, forget, inspect, ps, run } from './commands/workloads.ts';
import type { Command, Context } from './context.ts';
import { parseInvocation } from './definition.ts';
import { printable } from './format.ts';
import { commandHelp, overview } from './help.ts';
import { engineLost, hasEnded } from './lost-engine.ts';

const commands: Command[] = [
  run,
  ps,
  inspect,
  suspend,
  resume,
  memory,
  nap,
  wake,
  session,
  attach,
  exec,
  screenshot,
  windows,
  end,
  forget,
  snapshots,
  keep,
  rm,
  verify,
  gc,
  settings,
  encryption,
  exportBundle,
  importBundle,
  profiles,
  plugins,
  kexec,
  doctor,
  demo,
  ui,
  ...documentation(() => commands, version),
];

const print = (stream: NodeJS.WriteStream, text: string) =>
  new Promise<void>((resolve) => stream.write(`${text}\n`, () => resolve()));

async function dispatch(words: readonly string[]): Promise<number> {
  const [name, ...rest] = words;
  const [topic] = rest;
  if (name === 'help' && topic !== undefined && topic !== '--json') return dispatch([topic, '--help']);
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    await print(
      name === undefined ? process.stderr : process.stdout,
      overview(commands.map((command) => command.definition)),
    );
    return name === undefined ? exitCodes.usage : 0;
  }
  if (name === '--version') {
    await print(process.stdout, `torpor ${version}`);
    return 0;
  }
  const command = commands.find((candidate) => candidate.definition.name === name);
  if (command === undefined) {
    throw new TorporError('usage', `torpor has no command "${printable(name)}".`, 'See `torpor --help`.');
  }
  const invocation = parseInvocation(command.definition, rest);
  if (invocation.flag('help')) {
    await print(process.stdout, commandHelp(command.definition));
    return 0;
  }
  return runCommand(command, invocation);
}

async function runCommand(command: Command, invocation: ReturnType<typeof parseInvocation>): Promise<number> {
  const json = invocation.flag('json');
  let client: EngineClient | undefined;
  let written: Promise<void> = Promise.resolve();
  const context: Context = {
    invocation,
    json,
    engine: async () => {
      if (client === undefined || (await hasEnded(client)))
        client = await reachEngine({ isInteractive: true });
      return client;
    },
    result: (value, text) => {
      if (json) written = print(process.stdout, JSON.stringify(value, null, 2));
      else if (text !== '') written = print(process.stdout, text);
    },
    note: (text) => process.stderr.write(`${text}\n`),
  };
  try {
    return (await command.run(context)) ?? 0;
  } catch (error) {
    throw client !== undefined && (await hasEnded(client)) ? engineLost() : error;
  } finally {
    await written;
    await client?.[Symbol.asyncDispose]();
  }
}

/** Whether `--json` was asked for, also where the words could not be parsed. What follows `--` is not ours. */
function wantsJson(words: readonly string[]): boolean {
  const at = words.indexOf('--');
  return (at < 0 ? words : words.slice(0, at)).includes('--json');
}

async function main(words: readonly string[]): Promise<number> {
  try {
    return await dispatch(words);
  } catch (error) {
    const known = error instanceof TorporError ? error : undefined;
    const code = known?.code ?? 'failed';
    const sentence = printable(sentenceOf(error));
    if (wantsJson(words)) {
      const { hint = '', details = {} } = known ?? {};
      await print(
        process.stdout,
        JSON.stringify({ error: { code, message: sentence, hint, ...details } }, null, 2),
      );
    }
    await print(process.stderr, `torpor: ${sentence}`);
    if (known?.hint) await print(process.stderr, `  ${known.hint}`);
    return exitCodes[code];
  }
}

// Whoever reads the output may have gone, or its disk be full: what was done is done, and its exit code stands.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
process.exit(await main(process.argv.slice(2)));

/**
 * The command line as data: from these definitions come the parser, `--help`, the man page and the shell completion,
 * so that none of them can say something else than the others.
 */
import { parseArgs } from 'node:util';
import { TorporError } from '../api/errors.ts';

export interface OptionDefinition {
  /** Without dashes. */
  readonly name: string;
  /** What its value is called; an option without one is a switch. */
  readonly value?: string;
  readonly repeated?: boolean;
  readonly summary: string;
}

/** What an argument stands for, which is what the shell completes it with. */
export type ArgumentKind = 'workload' | 'snapshot' | 'file' | 'text';

export interface ArgumentDefinition {
  readonly name: string;
  readonly kind: ArgumentKind;
  readonly optional?: boolean;
  readonly repeated?: boolean;
}

export interface Example {
  readonly command: string;
  readonly meaning: string;
}

export interface CommandDefinition {
  readonly name: string;
  readonly summary: string;
  /** Paragraphs for `--help` and the man page. */
  readonly description: readonly string[];
  readonly arguments: readonly ArgumentDefinition[];
  readonly options: readonly OptionDefinition[];
  /** Takes `-- CMD ARG...` after its own arguments. */
  readonly takesCommand?: boolean | 'optional';
  readonly examples: readonly Example[];
}

export interface Invocation {
  readonly arguments: readonly string[];
  readonly command: readonly string[];
  flag(name: string): boolean;
  value(name: string): string | undefined;
  values(name: string): readonly string[];
}

/** Options that every command takes. */
export const commonOptions: readonly OptionDefinition[] = [
  { name: 'json', summary: 'Print one JSON document on standard output, everything else on standard error.' },
  { name: 'help', summary: 'Say what the command does.' },
];

/** The one-line form of a command. */
export function synopsis(command: CommandDefinition): string {
  const options = command.options.map((option) => {
    const form = option.value === undefined ? `--${option.name}` : `--${option.name} ${option.value}`;
    return option.repeated ? `[${form} ...]` : `[${form}]`;
  });
  const args = command.arguments.map((argument) => {
    const form = argument.repeated ? `${argument.name}...` : argument.name;
    return argument.optional ? `[${form}]` : form;
  });
  const forms = { true: ['--', 'CMD', 'ARG...'], optional: ['[-- CMD ARG...]'], false: [] };
  const rest = forms[`${command.takesCommand ?? false}`];
  return ['torpor', command.name, ...options, ...args, ...rest].join(' ');
}

function usage(command: CommandDefinition, sentence: string): TorporError {
  return new TorporError(
    'usage',
    sentence,
    `Usage: ${synopsis(command)}; see \`torpor ${command.name} --help\`.`,
  );
}

/** Where the command to run begins: after `--`, or at the first word that is no option. */
function splitCommand(definition: CommandDefinition, words: readonly string[]): [string[], string[]] {
  const options = [...definition.options, ...commonOptions];
  const own = definition.arguments.length;
  let seen = 0;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    if (word === '--') return [words.slice(0, index), words.slice(index + 1)];
    if (word.startsWith('-')) {
      const option = options.find((candidate) => word === `--${candidate.name}`);
      if (option?.value !== undefined) index++;
    } else if (seen++ === own) {
      return [words.slice(0, index), words.slice(index)];
    }
  }
  return [[...words], []];
}

/**
 * Reads the words after the command's name.
 * @throws TorporError `usage` that names the word that is wrong.
 */
export function parseInvocation(definition: CommandDefinition, words: readonly string[]): Invocation {
  const [own, command] = definition.takesCommand ? splitCommand(definition, words) : [[...words], []];
  const options = [...definition.options, ...commonOptions];
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({
      args: own,
      allowPositionals: true,
      options: Object.fromEntries(
        options.map((option) => [
          option.name,
          {
            type: option.value === undefined ? ('boolean' as const) : ('string' as const),
            multiple: option.repeated === true,
          },
        ]),
      ),
    });
  } catch (error) {
    const sentence = (error as Error).message.split(/\. |\n/)[0] ?? '';
    throw usage(definition, `${sentence.replace(/\.$/, '')}.`);
  }
  const { values, positionals } = parsed;
  if (values.help !== true) checkArguments(definition, positionals, command);
  return {
    arguments: positionals,
    command,
    flag: (name) => values[name] === true,
    value: (name) => values[name] as string | undefined,
    values: (name) => (values[name] as string[] | undefined) ?? [],
  };
}

function checkArguments(
  definition: CommandDefinition,
  given: readonly string[],
  command: readonly string[],
): void {
  const required = definition.arguments.filter((argument) => !argument.optional);
  const missing = required[given.length];
  if (missing !== undefined) throw usage(definition, `${missing.name} is missing.`);
  const many = definition.arguments.some((argument) => argument.repeated);
  const extra = given[definition.arguments.length];
  if (!many && extra !== undefined) throw usage(definition, `"${extra}" is one argument too many.`);
  if (definition.takesCommand === true && command.length === 0)
    throw usage(definition, 'The command to run is missing.');
}

/** Help, man page and shell completion, all made from the command definitions. */
import type { CommandDefinition, OptionDefinition } from './definition.ts';
import { commonOptions, synopsis } from './definition.ts';

const exitStatus: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [1, 'failed, and nothing lost'],
  [2, 'the command line is wrong'],
  [3, 'blocked by a finding'],
  [4, 'not found'],
  [5, 'not permitted'],
];

const optionForm = (option: OptionDefinition) =>
  option.value === undefined ? `--${option.name}` : `--${option.name} ${option.value}`;

function wrap(text: string, indent: string, width = 100): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((item) => indent + item).join('\n');
}

/** `torpor --help`. */
export function overview(commands: readonly CommandDefinition[]): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  return [
    'Torpor suspends desktop applications to disk and resumes them later, also after a reboot.',
    '',
    'Usage: torpor COMMAND [OPTION...] [ARGUMENT...]',
    '',
    'Commands:',
    ...commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}`),
    '',
    'Every command takes --json and --help. W is the id, the beginning of an id, or the name of a workload.',
    'For example: torpor run -- gimp photo.png; torpor suspend gimp; torpor resume gimp',
    `Exit codes: ${exitStatus.map(([code, meaning]) => `${code} ${meaning}`).join('; ')}.`,
  ].join('\n');
}

/** `torpor COMMAND --help`. */
export function commandHelp(command: CommandDefinition): string {
  const options = [...command.options, ...commonOptions];
  const width = Math.max(...options.map((option) => optionForm(option).length));
  return [
    `Usage: ${synopsis(command)}`,
    '',
    ...command.description.map((paragraph) => `${wrap(paragraph, '')}\n`),
    'Options:',
    ...options.map((option) => `  ${optionForm(option).padEnd(width)}  ${option.summary}`),
    '',
    'Examples:',
    ...command.examples.map((example) => `  ${example.command}\n      ${example.meaning}`),
  ].join('\n');
}

const roff = (text: string) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');

/** The man page torpor(1), as roff. */
export function manPage(commands: readonly CommandDefinition[], version: string): string {
  const section = (command: CommandDefinition) => [
    `.SS "${roff(synopsis(command))}"`,
    ...command.description.flatMap((paragraph) => [roff(paragraph), '.PP']),
    ...command.options.flatMap((option) => ['.TP', `.B ${roff(optionForm(option))}`, roff(option.summary)]),
    ...command.examples.flatMap((example) => ['.TP', `.I ${roff(example.command)}`, roff(example.meaning)]),
  ];
  return `${[
    `.TH TORPOR 1 "" "torpor ${version}" "User Commands"`,
    '.SH NAME',
    'torpor \\- suspend desktop applications to disk and resume them later',
    '.SH SYNOPSIS',
    '.B torpor',
    '.I COMMAND',
    '[\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]',
    '.SH COMMANDS',
    'W is the id, the beginning of an id, or the name of a workload.',
    ...commands.flatMap(section),
    '.SH OPTIONS OF EVERY COMMAND',
    ...commonOptions.flatMap((option) => ['.TP', `.B ${roff(optionForm(option))}`, roff(option.summary)]),
    '.SH EXIT STATUS',
    ...exitStatus.flatMap(([code, meaning]) => ['.TP', `.B ${code}`, roff(meaning)]),
    '.SH ENVIRONMENT',
    '.TP',
    '.B TORPOR_STATE_DIR',
    'The state folder, by default /var/lib/torpor. Engines of different state folders run side by side.',
  ].join('\n')}\n`;
}

/** Completion for bash: commands, options, and the names of workloads and snapshots. */
export function bashCompletion(commands: readonly CommandDefinition[]): string {
  const cases = commands.map((command) => {
    const options = [...command.options, ...commonOptions].map((option) => `--${option.name}`).join(' ');
    const kinds = new Set(command.arguments.map((argument) => argument.kind));
    const words = [
      ...(kinds.has('workload') ? ['$(torpor ps --quiet 2>/dev/null)'] : []),
      ...(kinds.has('snapshot') ? ['$(torpor snapshots --quiet 2>/dev/null)'] : []),
    ].join(' ');
    const fallback = command.takesCommand || kinds.has('file') ? ' compopt -o default;' : '';
    return `    ${command.name}) options="${options}"; words="${words}";${fallback} ;;`.replace(
      '; ;;',
      ' ;;',
    );
  });
  return `# bash completion for torpor, made from its own definitions
_torpor() {
  local current=\${COMP_WORDS[COMP_CWORD]} options="" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map((command) => command.name).join(' ')} --help --version" -- "$current"))
    return
  fi
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
  esac
  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$current"))
  else COMPREPLY=($(compgen -W "$words" -- "$current")); fi
}
complete -F _torpor torpor
`;
}

/** The machine, and what makes the command comfortable on it. */
import type { Command } from '../context.ts';
import { printable } from '../format.ts';
import { bashCompletion, manPage } from '../help.ts';

export const doctor: Command = {
  definition: {
    name: 'doctor',
    summary: 'check what this machine has and lacks',
    description: [
      'Checks kernel, capabilities, CRIU, X server, bus, disk and swap, and says of each what is missing, why it matters and the command that mends it. Exit code 1 where something that is needed is missing.',
    ],
    arguments: [],
    options: [],
    examples: [{ command: 'torpor doctor', meaning: 'is this machine fit?' }],
  },
  async run(context) {
    const checks = await (await context.engine()).doctor();
    const marks = { ok: 'ok     ', warning: 'warning', missing: 'MISSING' } as const;
    const text = checks
      .map(({ name, status, found, why, fix }) =>
        [
          `${marks[status]}  ${name}: ${printable(found)}`,
          ...(why === '' ? [] : [`         ${why}`]),
          ...(fix === '' ? [] : [`         To mend it: ${fix}`]),
        ].join('\n'),
      )
      .join('\n');
    context.result(checks, text);
    return checks.some((check) => check.status === 'missing') ? 1 : 0;
  },
};

/** The commands that need the list of all commands. */
export function documentation(all: () => readonly Command[], version: string): Command[] {
  const definitions = () => all().map((command) => command.definition);
  return [
    {
      definition: {
        name: 'completion',
        summary: 'print the completion for bash',
        description: ['Prints what makes bash complete commands, options, workloads and snapshots.'],
        arguments: [],
        options: [],
        examples: [{ command: 'source <(torpor completion)', meaning: 'in ~/.bashrc' }],
      },
      async run(context) {
        const text = bashCompletion(definitions());
        context.result({ completion: text }, text.trimEnd());
        return undefined;
      },
    },
    {
      definition: {
        name: 'man',
        summary: 'print the man page',
        description: ['Prints the man page torpor(1) in the form that man reads.'],
        arguments: [],
        options: [],
        examples: [{ command: 'torpor man | man -l -', meaning: 'read it' }],
      },
      async run(context) {
        const text = manPage(definitions(), version);
        context.result({ man: text }, text.trimEnd());
        return undefined;
      },
    },
  ];
}

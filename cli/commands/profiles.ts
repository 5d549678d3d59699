/** Application profiles: which there are, which are broken, and what they make of a command. */
import { TorporError } from '../../api/errors.ts';
import type { ProfileReport } from '../../api/types.ts';
import type { Command } from '../context.ts';
import { findingsText, printable, table } from '../format.ts';
import { environmentOf, ownEnvironment } from '../words.ts';

export const profiles: Command = {
  definition: {
    name: 'profiles',
    summary: 'show application profiles, and which apply to a command',
    description: [
      'Profiles are data files that say what certain applications need so that they can be suspended: environment, options, what they give up. Torpor brings some, /etc/torpor/profiles holds those of the machine, ~/.config/torpor/profiles your own. Without a command lists them, with one says which apply to it, why, and what they change. Starts nothing.',
      'What is wrong with a profile is told with file, line and what was expected; exit code 1 then. Such a profile is left out.',
    ],
    arguments: [],
    options: [
      { name: 'application', value: 'ID', summary: 'The desktop entry that the command belongs to.' },
      { name: 'env', value: 'K=V', repeated: true, summary: 'As `torpor run` would be given it.' },
      { name: 'user', value: 'U', summary: 'For this user (root only); otherwise for the caller.' },
      {
        name: 'disagree',
        value: 'WHAT',
        summary: 'Take back what was agreed to by `torpor run --agree`; it is asked again.',
      },
    ],
    takesCommand: 'optional',
    examples: [
      { command: 'torpor profiles', meaning: 'which profiles are there?' },
      { command: 'torpor profiles -- chromium', meaning: 'which of them apply to Chromium, and why?' },
      { command: 'torpor profiles --disagree chromium-sandbox', meaning: 'ask me again' },
    ],
  },
  async run(context) {
    const { invocation } = context;
    const client = await context.engine();
    const takenBack = invocation.value('disagree');
    if (takenBack !== undefined) {
      if (invocation.command.length > 0)
        throw new TorporError('usage', '--disagree stands alone: it is for all applications.');
      await client.takeBack(takenBack);
      context.result({ takenBack }, `${printable(takenBack)} will be asked again.`);
      return undefined;
    }
    const application = invocation.value('application');
    const user = invocation.value('user');
    const report = await client.profiles({
      command: [...invocation.command],
      cwd: process.cwd(),
      env: environmentOf(invocation.values('env')),
      callerEnv: ownEnvironment(),
      ...(application === undefined ? {} : { application }),
      ...(user === undefined ? {} : { user }),
    });
    context.result(report, textOf(report));
    return report.problems.length > 0 ? 1 : 0;
  },
};

function textOf({ profiles: all, problems, start }: ProfileReport): string {
  const broken = problems.map(({ sentence }) => `  ${printable(sentence)}`);
  const about = [
    ...(start === undefined
      ? [
          table(
            ['NAME', 'FROM', 'FOR', 'FILE'],
            all.map(({ name, title, origin, file }) => [name, origin, title, file]),
          ),
        ]
      : [startText(start)]),
    ...(broken.length === 0 ? [] : [`Left out for mistakes in them:\n${broken.join('\n')}`]),
  ];
  return about.join('\n\n');
}

function startText(start: NonNullable<ProfileReport['start']>): string {
  const { programs, matches, command, environment, preloads, consents, notes, findings } = start;
  const section = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : [`${title}\n${lines.map((line) => `  ${printable(line)}`).join('\n')}`];
  return [
    ...(programs.length === 0 ? ['There is no such program.'] : section('It leads to:', programs)),
    ...(matches.length === 0
      ? ['No profile applies to it: it is started as it is.']
      : section(
          'Profiles that apply:',
          matches.map(({ profile, why }) => `${profile}: ${why}`),
        )),
    ...section(
      'Environment:',
      Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    ),
    ...section('Started as:', matches.length === 0 ? [] : [command.join(' ')]),
    ...section('Loaded into it:', preloads),
    ...section(
      'Given up:',
      consents.map(({ id, what, given }) => `${id} (${given ? 'agreed to' : 'not agreed to'}): ${what.en}`),
    ),
    ...section(
      'To be told:',
      notes.map(({ en }) => en),
    ),
    ...(findings.length === 0 ? [] : [`Findings to expect:\n${findingsText(findings)}`]),
  ].join('\n');
}

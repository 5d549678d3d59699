/** Plugins: which there are for one's own workloads, and what is wrong with them. */
import type { PluginInfo, PluginReport } from '../../api/types.ts';
import type { Command } from '../context.ts';
import { printable, table } from '../format.ts';

export const plugins: Command = {
  definition: {
    name: 'plugins',
    summary: 'show the plugins that are called before a suspend and after a resume',
    description: [
      'Plugins are programs that detach a workload from something outside before a suspend, and establish it again after a resume. They are started by files as D-Bus has them for services: Torpor brings some, /usr/share/torpor/plugins and /etc/torpor/plugins hold those of the machine, ~/.local/share/torpor/plugins your own. A plugin runs as you, and is called for your workloads only.',
      'Each is asked what it is. What is wrong with one is told; exit code 1 then. An optional plugin that fails is reported, a required one keeps its workloads from being suspended.',
    ],
    arguments: [],
    options: [],
    examples: [{ command: 'torpor plugins', meaning: 'which plugins are there, and do they answer?' }],
  },
  async run(context) {
    const report = await (await context.engine()).plugins();
    context.result(report, textOf(report));
    const isBroken =
      report.problems.length > 0 || report.plugins.some(({ problem }) => problem !== undefined);
    return isBroken ? 1 : 0;
  },
};

function textOf({ plugins: all, problems }: PluginReport): string {
  const list =
    all.length === 0
      ? 'There are no plugins.'
      : table(
          ['NAME', 'TITLE', 'POLICY', 'STATE'],
          all.map((each) => [each.name, printable(each.title), each.policy, stateOf(each)]),
        );
  const broken = all.flatMap(({ name, problem }) =>
    problem === undefined ? [] : [`${name}: ${printable(problem)}.`],
  );
  return [list, ...broken, ...problems.map((problem) => `Left out: ${printable(problem)}`)].join('\n');
}

function stateOf({ problem, running }: PluginInfo): string {
  if (problem !== undefined) return 'fails';
  return running ? 'running' : 'started now';
}

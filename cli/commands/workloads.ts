/** Starting, listing, inspecting and ending workloads. */
import type { Workload } from '../../api/types.ts';
import type { Command } from '../context.ts';
import { ago, bytes, findingsText, intervalText, printable, table, workloadJson } from '../format.ts';
import { environmentOf, ownEnvironment } from '../words.ts';

export const run: Command = {
  definition: {
    name: 'run',
    summary: 'start an application in a capsule',
    description: [
      'Starts an application in a capsule: a small container with its own X server, session bus and window manager, so that it can be suspended at any time. Home folder, settings, fonts and network are those of the machine. Prints the id of the capsule.',
      'What certain applications need for that stands in profiles (`torpor profiles`). Where one gives something up, the application is started only when you have agreed to it once (exit code 3 until then).',
    ],
    arguments: [],
    options: [
      { name: 'name', value: 'N', summary: 'The name to know it by; otherwise that of the command.' },
      { name: 'root', value: 'DIR', summary: 'Another root folder than that of the machine (root only).' },
      { name: 'user', value: 'U', summary: 'Run it as this user (root only); otherwise as the caller.' },
      { name: 'env', value: 'K=V', repeated: true, summary: 'Set a variable in its environment.' },
      { name: 'geometry', value: 'WxH', summary: 'Size of its screen in pixels; otherwise 1280x800.' },
      {
        name: 'application',
        value: 'ID',
        summary: 'The desktop entry it belongs to, such as org.gnome.Calculator.desktop.',
      },
      {
        name: 'agree',
        value: 'WHAT',
        repeated: true,
        summary: 'Agree to what the application gives up in a capsule; it is remembered.',
      },
      {
        name: 'cpu-baseline',
        summary:
          'Have it do without what only newer CPUs have, so that it can go to a machine with another CPU.',
      },
      {
        name: 'warm',
        summary:
          'Begin with a snapshot that was taken just after it was ready. It is made where there is none, and anew when the application or its settings have changed.',
      },
      { name: 'no-profiles', summary: 'Start it without what application profiles would add.' },
    ],
    takesCommand: true,
    examples: [
      { command: 'torpor run -- gimp photo.png', meaning: 'start GIMP with a picture' },
      {
        command: 'torpor run --name mail --env LANG=de_DE.UTF-8 -- thunderbird',
        meaning: 'with a name and a language',
      },
      {
        command: 'torpor run --warm -- libreoffice --writer',
        meaning: 'ready at once from the second time on',
      },
      {
        command: 'torpor run --cpu-baseline -- xterm',
        meaning: 'to take it to an older machine later',
      },
    ],
  },
  async run(context) {
    const { invocation } = context;
    const env = environmentOf(invocation.values('env'));
    const client = await context.engine();
    const name = invocation.value('name');
    const root = invocation.value('root');
    const user = invocation.value('user');
    const geometry = invocation.value('geometry');
    const application = invocation.value('application');
    const workload = await client.run({
      command: [...invocation.command],
      env,
      callerEnv: ownEnvironment(),
      cwd: process.cwd(),
      ...(name === undefined ? {} : { name }),
      ...(root === undefined ? {} : { root }),
      ...(user === undefined ? {} : { user }),
      ...(geometry === undefined ? {} : { geometry }),
      ...(application === undefined ? {} : { application }),
      ...(invocation.flag('cpu-baseline') ? { cpuBaseline: true } : {}),
      ...(invocation.flag('warm') ? { warm: true } : {}),
      ...(invocation.flag('no-profiles')
        ? { withoutProfiles: true }
        : { agree: [...invocation.values('agree')] }),
    });
    const toTell = [
      ...(workload.told ?? []),
      ...(workload.warm?.why === undefined ? [] : [workload.warm.why]),
    ];
    for (const { en } of toTell) context.note(`torpor: ${printable(en)}`);
    context.result(workloadJson(workload), workload.id);
    return undefined;
  },
};

export const ps: Command = {
  definition: {
    name: 'ps',
    summary: 'list workloads',
    description: [
      'Lists your workloads, root those of all users: what runs, what is suspended, what has ended lately.',
    ],
    arguments: [],
    options: [{ name: 'quiet', summary: 'Print only the ids.' }],
    examples: [{ command: 'torpor ps', meaning: 'what there is' }],
  },
  async run(context) {
    const workloads = await (await context.engine()).list();
    const text = context.invocation.flag('quiet')
      ? workloads.map((workload) => workload.id).join('\n')
      : table(
          ['ID', 'NAME', 'STATE', 'USER', 'MEMORY', 'PROCESSES', 'STARTED', 'COMMAND'],
          workloads.map((workload) => [
            workload.id,
            workload.name,
            stateText(workload),
            workload.user,
            bytes(workload.memoryBytes),
            String(workload.pids.length),
            `${ago(workload.startedAt)} ago`,
            workload.command.join(' '),
          ]),
        );
    const intervals = workloads.flatMap(({ name, interval }) =>
      interval === undefined ? [] : [intervalText(name, interval)],
    );
    const isQuiet = context.invocation.flag('quiet');
    context.result(
      workloads.map(workloadJson),
      isQuiet || intervals.length === 0 ? text : [text, '', ...intervals].join('\n'),
    );
    return undefined;
  },
};

function stateText({ state, exit, loading }: Workload): string {
  if (exit !== undefined) return `ended (${'code' in exit ? exit.code : `signal ${exit.signal}`})`;
  if (loading === undefined || loading.bytesTotal <= 0) return state;
  return `${state}, ${Math.floor((loading.bytesDone / loading.bytesTotal) * 100)} % in memory`;
}

export const inspect: Command = {
  definition: {
    name: 'inspect',
    summary: 'say what ties a workload to its surroundings',
    description: [
      'Finds what ties a workload, or any process and its children, to its surroundings, and says of each tie whether it is handled, whether something will be different after a resume, or whether it blocks a suspend, and what to do. Touches nothing. Exit code 3 where something blocks.',
    ],
    arguments: [{ name: 'W|PID', kind: 'workload' }],
    options: [],
    examples: [{ command: 'torpor inspect gimp', meaning: 'would a suspend of GIMP work?' }],
  },
  async run(context) {
    const inspection = await (await context.engine()).inspect(context.invocation.arguments[0] ?? '');
    const blocking = inspection.findings.some((finding) => finding.verdict === 'blocking');
    const processes = table(
      ['PID', 'PARENT', 'MEMORY', 'FILES', 'COMMAND'],
      inspection.processes.map((process) => [
        String(process.pid),
        String(process.ppid),
        bytes(process.memoryBytes),
        String(process.openFiles),
        process.command.join(' ') || process.name,
      ]),
    );
    const lists = [
      ['Open files', inspection.openFiles],
      ['Sockets', inspection.sockets],
    ] as const;
    const text = [
      `${printable(inspection.target)}: ${inspection.processes.length} processes, ${bytes(inspection.memoryBytes)} of memory`,
      processes,
      ...lists.map(
        ([title, items]) =>
          `${title}: ${items.length}\n${items.map((item) => `  ${printable(item)}`).join('\n')}`,
      ),
      `Findings: ${blocking ? 'a suspend is blocked' : 'it can be suspended'}\n${findingsText(inspection.findings)}`,
    ].join('\n\n');
    context.result(inspection, text);
    return blocking ? 3 : 0;
  },
};

export const forget: Command = {
  definition: {
    name: 'forget',
    summary: 'forget a workload and remove its snapshots',
    description: [
      'Forgets a workload that has ended or is suspended: it is listed no longer, and all its snapshots are removed. Where one of them is kept, nothing is removed (exit code 3).',
    ],
    arguments: [{ name: 'W', kind: 'workload' }],
    options: [],
    examples: [{ command: 'torpor forget mail', meaning: 'nothing of it is needed any more' }],
  },
  async run(context) {
    const workload = context.invocation.arguments[0] ?? '';
    await (await context.engine()).forget(workload);
    context.result({ forgotten: workload }, `${printable(workload)} is forgotten.`);
    return undefined;
  },
};

export const end: Command = {
  definition: {
    name: 'end',
    summary: 'end a running capsule',
    description: [
      'Ends the application of a capsule and everything in it. Unsaved work is lost, as by closing it; its snapshots stay.',
    ],
    arguments: [{ name: 'W', kind: 'workload' }],
    options: [],
    examples: [{ command: 'torpor end mail', meaning: 'end the application named mail' }],
  },
  async run(context) {
    const workload = await (await context.engine()).end(context.invocation.arguments[0] ?? '');
    context.result(workloadJson(workload), `${printable(workload.name)} has ended.`);
    return undefined;
  },
};

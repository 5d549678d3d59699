/** Seeing and using what runs: the screen of a capsule in a window, the terminal of a job in this one. */
import { spawn } from 'node:child_process';
import { TorporError } from '../../api/errors.ts';
import type { Workload } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { screenOf } from './inside.ts';
import { showTerminal } from './terminal.ts';

export const attach: Command = {
  definition: {
    name: 'attach',
    summary: 'open the window of a capsule, or the terminal of a job in this one',
    description: [
      'Shows the screen of a running capsule in a window of this desktop; closing the window leaves the application running.',
      'Shows the terminal of a job that was resumed in this terminal. Ctrl+] leaves it, and so does closing the terminal: the job runs on, and can be attached again. The exit code is that of the job where it ends meanwhile, otherwise 0.',
    ],
    arguments: [{ name: 'W', kind: 'workload' }],
    options: [],
    examples: [
      { command: 'torpor attach gimp', meaning: 'see and use GIMP' },
      { command: 'torpor attach backup.sh', meaning: 'go on with a script where it was left' },
    ],
  },
  async run(context) {
    const client = await context.engine();
    const found = await client.get(context.invocation.arguments[0] ?? '');
    // Who wants to see it wants to use it.
    const { workload } = found.state === 'napping' ? await client.wake(found.id) : { workload: found };
    return workload.kind === 'job' ? attachTerminal(context, workload) : openWindow(context);
  },
};

async function openWindow(context: Context): Promise<number> {
  const { workload, socket } = await screenOf(context);
  if (!process.env.DISPLAY) {
    throw new TorporError(
      'failed',
      'There is no display here to open a window on.',
      `Save a picture of it instead: \`torpor screenshot ${workload.name} FILE.png\`.`,
    );
  }
  const status = await new Promise<number>((resolve, reject) => {
    const viewer = spawn('xtigervncviewer', ['-RemoteResize=1', socket], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    viewer.once('error', (error) =>
      reject(
        new TorporError(
          'failed',
          `The viewer cannot be started: ${error.message}.`,
          'Install it: `apt-get install tigervnc-viewer`.',
        ),
      ),
    );
    viewer.once('close', (code) => resolve(code ?? 1));
  });
  context.result({ workload: workload.id, status }, '');
  return status === 0 ? 0 : 1;
}

async function attachTerminal(context: Context, workload: Workload): Promise<number> {
  const socket = terminalOf(workload);
  const end = await showTerminal(socket, workload.name);
  context.result({ workload: workload.id, ...end }, '');
  const { name } = workload;
  switch (end.kind) {
    case 'left':
      context.note(`${name} runs on. To see it again: torpor attach ${name}`);
      return 0;
    case 'suspended':
      context.note(`${name} was suspended. To go on with it: torpor resume ${name}`);
      return 0;
    case 'ended':
      if (end.exit === undefined) return 1;
      return 'code' in end.exit ? end.exit.code : 128 + end.exit.signal;
  }
}

function terminalOf({ name, state, terminal }: Workload): string {
  if (terminal !== undefined) return terminal;
  if (state === 'suspended')
    throw new TorporError('failed', `${name} is suspended.`, `Resume it first: \`torpor resume ${name}\`.`);
  if (state === 'running')
    throw new TorporError(
      'failed',
      `${name} runs where it was started, or without a terminal.`,
      'One that was suspended and resumed has a terminal that can be attached.',
    );
  throw new TorporError('failed', `${name} does not run.`, 'See `torpor ps`.');
}

/** Reaching into a capsule: its screen, and commands inside it. */
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { encodeFrame, FrameReader } from '../../api/exec-stream.ts';
import { connectRfb } from '../../api/rfb/client.ts';
import { encodePng } from '../../api/rfb/picture.ts';
import type { Workload } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { printable } from '../format.ts';
import { environmentOf } from '../words.ts';

/** The RFB socket of a running workload. @throws TorporError where it does not run. */
async function screenOf(context: Context): Promise<{ workload: Workload; socket: string }> {
  const workload = await (await context.engine()).get(context.invocation.arguments[0] ?? '');
  if (workload.screen === undefined) {
    const hint =
      workload.state === 'suspended'
        ? `Resume it first: \`torpor resume ${workload.name}\`.`
        : 'See `torpor ps`.';
    throw new TorporError('failed', `${workload.name} does not run, so it has no screen.`, hint);
  }
  return { workload, socket: workload.screen };
}

export const screenshot: Command = {
  definition: {
    name: 'screenshot',
    summary: 'save a picture of a capsule’s screen',
    description: ['Saves the screen of a running capsule as a PNG file.'],
    arguments: [
      { name: 'W', kind: 'workload' },
      { name: 'FILE.png', kind: 'file' },
    ],
    options: [],
    examples: [{ command: 'torpor screenshot gimp now.png', meaning: 'how GIMP looks' }],
  },
  async run(context) {
    const { socket } = await screenOf(context);
    const file = context.invocation.arguments[1] ?? '';
    await using screen = await connectRfb(socket);
    const picture = await screen.capture();
    await writeFile(file, await encodePng(picture)).catch((error: Error) => {
      throw new TorporError('failed', `${file} cannot be written: ${error.message}.`, 'Choose another file.');
    });
    context.result(
      { file, width: picture.width, height: picture.height },
      `${printable(file)}: ${picture.width}x${picture.height}`,
    );
    return undefined;
  },
};

export const attach: Command = {
  definition: {
    name: 'attach',
    summary: 'open the window of a capsule',
    description: [
      'Shows the screen of a running capsule in a window of this desktop. Closing the window leaves the application running.',
    ],
    arguments: [{ name: 'W', kind: 'workload' }],
    options: [],
    examples: [{ command: 'torpor attach gimp', meaning: 'see and use GIMP' }],
  },
  async run(context) {
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
  },
};

export const exec: Command = {
  definition: {
    name: 'exec',
    summary: 'run a command inside a capsule',
    description: [
      'Runs a command inside a running capsule, as its user and on its display, with this terminal’s input and output. The exit code is that of the command.',
    ],
    arguments: [{ name: 'W', kind: 'workload' }],
    options: [{ name: 'env', value: 'K=V', repeated: true, summary: 'Set a variable in its environment.' }],
    takesCommand: true,
    examples: [{ command: 'torpor exec gimp -- xdotool key ctrl+s', meaning: 'press a key in GIMP' }],
  },
  async run(context) {
    const env = environmentOf(context.invocation.values('env'));
    const client = await context.engine();
    const path = await client.exec(context.invocation.arguments[0] ?? '', {
      command: [...context.invocation.command],
      env,
    });
    const captured: Record<'output' | 'errors', Buffer[]> = { output: [], errors: [] };
    const code = await relay(path, (stream, bytes) => {
      if (context.json) captured[stream].push(bytes);
      else (stream === 'output' ? process.stdout : process.stderr).write(bytes);
    });
    if (context.json) {
      const text = (stream: 'output' | 'errors') => Buffer.concat(captured[stream]).toString('utf8');
      context.result({ code, stdout: text('output'), stderr: text('errors') }, '');
    }
    return code;
  },
};

/** Carries input and output over the socket of an exec. @returns the command's exit status. */
function relay(path: string, show: (stream: 'output' | 'errors', bytes: Buffer) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string) =>
      reject(
        new TorporError(
          'failed',
          `The connection to the capsule broke: ${reason}.`,
          'See `torpor ps` whether it still runs.',
        ),
      );
    const socket = connect({ path, allowHalfOpen: true });
    const frames = new FrameReader();
    let exit: number | undefined;
    socket.on('error', (error) => fail(sentenceOf(error)));
    socket.on('data', (bytes) => {
      for (const { kind, payload } of frames.push(bytes)) {
        if (kind === 'output' || kind === 'errors') show(kind, Buffer.from(payload));
        if (kind === 'exit') exit = (JSON.parse(payload.toString('utf8')) as { code: number }).code;
      }
    });
    socket.on('close', () => (exit === undefined ? fail('it ended early') : resolve(exit)));
    socket.on('end', () => socket.destroy());
    process.stdin.on('data', (bytes: Buffer) => socket.write(encodeFrame('input', bytes)));
    process.stdin.on('end', () => socket.write(encodeFrame('inputEnd')));
    // A closed or unreadable standard input is the same as an empty one.
    process.stdin.on('error', () => socket.write(encodeFrame('inputEnd')));
  });
}

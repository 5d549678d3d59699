/** Reaching into a capsule: its screen, and commands inside it. */
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { sentenceOf, TorporError } from '../../api/errors.ts';
import { encodeFrame, FrameReader } from '../../api/exec-stream.ts';
import { connectRfb } from '../../api/rfb/client.ts';
import { decodePng, encodePng } from '../../api/rfb/picture.ts';
import type { Workload } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { printable, table } from '../format.ts';
import { environmentOf } from '../words.ts';

/** The RFB socket of a running capsule. @throws TorporError where it does not run. */
export async function screenOf(context: Context): Promise<{ workload: Workload; socket: string }> {
  const workload = await (await context.engine()).get(context.invocation.arguments[0] ?? '');
  if (workload.screen === undefined) {
    if (workload.kind === 'job') {
      throw new TorporError(
        'failed',
        `${workload.name} is a job: it has a terminal and no screen.`,
        `See it with \`torpor attach ${workload.name}\`.`,
      );
    }
    const hint =
      workload.state === 'suspended'
        ? `Resume it first: \`torpor resume ${workload.name}\`.`
        : 'See `torpor ps`.';
    throw new TorporError('failed', `${workload.name} does not run, so it has no screen.`, hint);
  }
  if (workload.state === 'napping')
    throw new TorporError(
      'failed',
      `${workload.name} naps, and does not answer.`,
      `Wake it: \`torpor wake ${workload.name}\`.`,
    );
  return { workload, socket: workload.screen };
}

export const screenshot: Command = {
  definition: {
    name: 'screenshot',
    summary: 'save a picture of a capsule’s screen',
    description: [
      'Saves the screen of a capsule as a PNG file: of one that runs as it is now, of one that is suspended, or of a snapshot, as it was then.',
    ],
    arguments: [
      { name: 'W|SNAPSHOT', kind: 'workload' },
      { name: 'FILE.png', kind: 'file' },
    ],
    options: [],
    examples: [
      { command: 'torpor screenshot gimp now.png', meaning: 'how GIMP looks' },
      { command: 'torpor screenshot 3f2a9c then.png', meaning: 'how it looked when that snapshot was taken' },
    ],
  },
  async run(context) {
    const file = context.invocation.arguments[1] ?? '';
    const png = await pictureOf(context);
    const { width, height } = decodePng(png);
    await writeFile(file, png).catch((error: Error) => {
      throw new TorporError('failed', `${file} cannot be written: ${error.message}.`, 'Choose another file.');
    });
    context.result({ file, width, height }, `${printable(file)}: ${width}x${height}`);
    return undefined;
  },
};

const codeOf = (error: unknown) => (error instanceof TorporError ? error.code : undefined);

/** The picture that was asked for, as a PNG file. */
async function pictureOf(context: Context): Promise<Uint8Array> {
  const client = await context.engine();
  const reference = context.invocation.arguments[0] ?? '';
  const isSnapshot = (await client.snapshots('')).some(
    ({ id }) => id === reference || (reference.length >= 4 && id.startsWith(reference)),
  );
  if (isSnapshot) return readFile(await client.picture(reference, 'full'));
  const { state, snapshot } = await client.get(reference).catch(async (error: unknown) => {
    if (codeOf(error) !== 'not-found') throw error;
    // A snapshot of another user's, which is said in other words than that there is none.
    throw await client.picture(reference, 'full').then(
      () => error,
      (refusal: unknown) => (codeOf(refusal) === 'not-found' ? error : refusal),
    );
  });
  if (state === 'suspended' && snapshot !== undefined)
    return readFile(await client.picture(snapshot, 'full'));
  const { socket } = await screenOf(context);
  await using screen = await connectRfb(socket);
  return encodePng(await screen.capture());
}

export const windows: Command = {
  definition: {
    name: 'windows',
    summary: 'list the windows of an application, bring one to the front, or close them',
    description: [
      'Lists the windows of the application in a running capsule. With --activate one of them is brought to the front. With --close every window is asked to close, as by its close button: the application may still ask about unsaved work, and then goes on until it is answered (`torpor attach`).',
    ],
    arguments: [{ name: 'W', kind: 'workload' }],
    options: [
      { name: 'activate', value: 'ID', summary: 'Bring this window to the front.' },
      { name: 'close', summary: 'Ask all windows to close.' },
    ],
    examples: [
      { command: 'torpor windows gimp', meaning: 'which windows GIMP has' },
      { command: 'torpor windows gimp --activate 8388612', meaning: 'go to one of them' },
      { command: 'torpor windows gimp --close', meaning: 'close GIMP, but let it ask to save' },
    ],
  },
  async run(context) {
    const { invocation } = context;
    const workload = invocation.arguments[0] ?? '';
    const wanted = windowId(invocation.value('activate'));
    if (wanted !== undefined && invocation.flag('close'))
      throw new TorporError('usage', '--activate and --close exclude each other.', 'Leave out either.');
    const client = await context.engine();
    if (wanted !== undefined) await client.activateWindow(workload, wanted);
    if (invocation.flag('close')) await client.closeWindows(workload);
    if (wanted !== undefined || invocation.flag('close')) {
      context.result({ workload, ...(wanted === undefined ? { closing: true } : { activated: wanted }) }, '');
      return undefined;
    }
    const list = await client.windows(workload);
    const text = table(
      ['ID', '', 'CLASS', 'TITLE'],
      list.map((window) => [String(window.id), window.active ? '*' : '', window.class, window.title]),
    );
    context.result(list, text);
    return undefined;
  },
};

function windowId(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const id = Number(text);
  if (/^\d{1,10}$/.test(text) && id <= 0xffff_ffff) return id;
  throw new TorporError(
    'usage',
    `"${text}" is no window’s id.`,
    'See `torpor windows W` for those there are.',
  );
}

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

/** The terminal of a job, shown in this one: keys go there, what it draws is drawn here, the size follows. */
import { spawnSync } from 'node:child_process';
import { connect } from 'node:net';
import { TorporError } from '../../api/errors.ts';
import {
  encodeTerminalFrame,
  nearestSize,
  type TerminalEnd,
  type TerminalFrame,
  TerminalFrameReader,
} from '../../api/terminal-stream.ts';

/** Ctrl+], as telnet has it. */
const leaveKey = 0x1d;

/**
 * Resolves when the job ends or is suspended, or the user has left.
 * @param socket as a workload's `terminal` names it.
 * @throws TorporError `usage` where this is no terminal, `failed` where the connection cannot be made or breaks.
 */
export async function showTerminal(socket: string, name: string): Promise<TerminalEnd> {
  const { stdin, stdout } = process;
  if (!stdin.isTTY || !stdout.isTTY) {
    throw new TorporError(
      'usage',
      'A terminal can be shown in a terminal only, and this is none.',
      `Run \`torpor attach ${name}\` in a terminal.`,
    );
  }
  const connection = connect(socket);
  const send = (frame: TerminalFrame) => connection.write(encodeTerminalFrame(frame));
  const sendSize = () => send({ kind: 'size', size: nearestSize(stdout) });
  const type = (bytes: Buffer) => {
    const at = bytes.indexOf(leaveKey);
    const before = at < 0 ? bytes : bytes.subarray(0, at);
    if (before.length > 0) send({ kind: 'data', bytes: before });
    if (at >= 0) send({ kind: 'leave' });
  };
  const before = stty('-g').trim();
  const hangUp = () => connection.destroy();
  try {
    return await new Promise<TerminalEnd>((resolve, reject) => {
      const reader = new TerminalFrameReader();
      const broken = (reason: string) =>
        reject(
          new TorporError(
            'failed',
            `The connection to the terminal of ${name} broke: ${reason}.`,
            'See `torpor ps` whether it still runs.',
          ),
        );
      connection.once('connect', () => {
        // Node's own raw mode still turns line feeds into more.
        stty('raw', '-echo');
        stdin.on('data', type);
        stdout.on('resize', sendSize);
        process.once('SIGHUP', hangUp);
        process.once('SIGTERM', hangUp);
        sendSize();
      });
      connection.on('data', (bytes) => {
        try {
          for (const frame of reader.push(bytes)) {
            if (frame.kind === 'data') stdout.write(frame.bytes);
            else if (frame.kind === 'end') resolve(frame.end);
          }
        } catch (error) {
          broken((error as Error).message);
        }
      });
      connection.once('error', ({ message }) => broken(message));
      connection.once('close', () => broken('it was closed'));
    });
  } finally {
    connection.destroy();
    stdout.off('resize', sendSize);
    stdin.off('data', type);
    process.off('SIGHUP', hangUp);
    process.off('SIGTERM', hangUp);
    stty(before);
    stdin.pause();
    stdout.write('\r\n');
  }
}

/** @returns what it says. */
function stty(...settings: string[]): string {
  const { stdout } = spawnSync('stty', settings, { stdio: ['inherit', 'pipe', 'ignore'], encoding: 'utf8' });
  return stdout ?? '';
}

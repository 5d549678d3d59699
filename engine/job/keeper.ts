/** The engine's side of the program that keeps a job's terminal (engine/terminal). */
import { connect } from 'node:net';
import { join } from 'node:path';

const answerLimitMs = 5000;

/**
 * What the terminal shows. The job stands still, so it does not change.
 * @param folder the job's run folder.
 * @returns undefined where the keeper is gone or does not answer: then the next resume shows an empty terminal.
 */
export async function askForScreen(folder: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(join(folder, 'keeper'));
    let text = '';
    socket.setEncoding('utf8');
    socket.setTimeout(answerLimitMs, () => socket.destroy());
    socket.on('data', (part) => {
      text += part;
    });
    socket.on('error', () => resolve(undefined));
    socket.on('end', () => resolve(text));
    socket.on('close', () => resolve(undefined));
  });
}

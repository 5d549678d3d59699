/** Passphrases: from the terminal, where nothing of them shows, or from standard input, a line each. Never from arguments. */
import { createInterface } from 'node:readline';
import { ReadStream } from 'node:tty';
import { TorporError } from '../api/errors.ts';

const keys = {
  enter: ['\r', '\n'],
  interrupt: '\u0003',
  end: '\u0004',
  erase: ['\u007f', '\b'],
  clear: '\u0015',
};

/** The passphrases that are asked for, in this order; `anew` is asked for twice on a terminal. */
export async function readPassphrases(
  questions: readonly { text: string; anew?: boolean }[],
  input: NodeJS.ReadStream = process.stdin,
): Promise<string[]> {
  const isTerminal = input instanceof ReadStream && input.isTTY;
  const answers: string[] = [];
  if (!isTerminal) {
    for await (const line of createInterface({ input })) {
      answers.push(line);
      if (answers.length === questions.length) break;
    }
    if (answers.length === questions.length) return answers;
    throw new TorporError(
      'usage',
      `Standard input has ${answers.length} lines, and ${questions.length} are needed.`,
      `Each is one passphrase: ${questions.map(({ text }) => text.toLowerCase()).join(', ')}.`,
    );
  }
  for (const { text, anew } of questions) {
    const answer = await ask(input, text);
    if (anew && answer !== (await ask(input, 'Once more')))
      throw new TorporError('usage', 'The two are not the same.', 'Nothing has changed; try again.');
    answers.push(answer);
  }
  return answers;
}

/** Its echo is off, so that what is typed is seen nowhere. */
async function ask(terminal: ReadStream, question: string): Promise<string> {
  process.stderr.write(`${question}: `);
  terminal.setRawMode(true);
  terminal.setEncoding('utf8');
  try {
    return await new Promise<string>((resolve, reject) => {
      let typed: string[] = [];
      const given = () =>
        reject(new TorporError('failed', 'No passphrase was given.', 'Nothing has changed.'));
      const onData = (text: string) => {
        for (const key of text) {
          if (keys.enter.includes(key)) {
            terminal.off('data', onData).off('end', given);
            return resolve(typed.join(''));
          }
          if (key === keys.interrupt || key === keys.end) return given();
          if (keys.erase.includes(key)) typed.pop();
          else if (key === keys.clear) typed = [];
          else typed.push(key);
        }
      };
      terminal.on('data', onData).on('end', given).resume();
    });
  } finally {
    terminal.setRawMode(false);
    terminal.pause();
    process.stderr.write('\n');
  }
}

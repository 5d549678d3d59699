/** The machine's console, which is seen when all sessions have ended already. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { sentenceOf } from '../../api/errors.ts';
import type { Logger } from '../log.ts';

/** It does not become the engine's terminal, and nobody waits where the console does not take anything. */
const how = constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK;

export function writeToConsole(line: string, log: Logger): void {
  try {
    const console = openSync('/dev/console', how);
    try {
      writeSync(console, `${line}\r\n`);
    } finally {
      closeSync(console);
    }
  } catch (error) {
    log.warn({ reason: sentenceOf(error) }, 'nothing can be written to the console');
  }
}

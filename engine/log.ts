/** The engine's log: one JSON line an event, in one place: `log/torpord.log` in the state folder. */
import { mkdirSync, openSync, renameSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

const rotateBytes = 16 * 1024 * 1024;

/** Opens the log, moving one that has grown over 16 MiB aside first. */
export function openLog(stateDir: string): Logger {
  const folder = join(stateDir, 'log');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'torpord.log');
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > rotateBytes) renameSync(path, `${path}.1`);
  const file = openSync(path, 'a', 0o600);
  const write = (line: string) => {
    try {
      // At once: what was going on when the engine was killed is what the log is wanted for.
      writeSync(file, line);
    } catch {
      // A full disk must not end the engine for want of a log.
    }
  };
  return pino(
    { level: process.env.TORPOR_LOG_LEVEL || 'info', timestamp: pino.stdTimeFunctions.isoTime },
    { write },
  );
}

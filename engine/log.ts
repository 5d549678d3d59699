/** The engine's log: one JSON line an event, in one place: `log/torpord.log` in the state folder. */
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { destination, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

const rotateBytes = 16 * 1024 * 1024;

/** Opens the log, moving one that has grown over 16 MiB aside first. */
export function openLog(stateDir: string): Logger {
  const folder = join(stateDir, 'log');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'torpord.log');
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > rotateBytes) renameSync(path, `${path}.1`);
  const file = destination({ dest: path, sync: false, mode: 0o600 });
  // A full disk must not end the engine for want of a log.
  file.on('error', () => {});
  return pino(
    { level: process.env.TORPOR_LOG_LEVEL || 'info', timestamp: pino.stdTimeFunctions.isoTime },
    file,
  );
}

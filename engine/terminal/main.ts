/** `torpor-terminal FOLDER UID GID COLUMNS ROWS SCREENFILE`: started by torpor-room with a terminal's master as descriptor 3. */
import { keepTerminal } from './keeper.ts';

const [folder = '', uid, gid, columns, rows, screenFile = ''] = process.argv.slice(2);
await keepTerminal({
  folder,
  uid: Number(uid),
  gid: Number(gid),
  size: { columns: Number(columns), rows: Number(rows) },
  // What the terminal showed at the suspend is no longer what it shows.
  screenFile: process.env.TORPOR_TERMINAL_KEPT_BEFORE === undefined ? screenFile : '',
});
process.exit(0);

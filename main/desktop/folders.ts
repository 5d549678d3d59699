/** The user's folders after the XDG Base Directory Specification 0.8. */
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

export interface Folders {
  home: string;
  dataHome: string;
  configHome: string;
  stateHome: string;
  /** The most important first, the user's own before all. */
  data: readonly string[];
  config: readonly string[];
}

/** Relative paths are to be ignored. */
function absolute(path: string | undefined, otherwise: string): string {
  return path !== undefined && isAbsolute(path) ? path : otherwise;
}

function several(paths: string | undefined, otherwise: string): string[] {
  return (paths || otherwise).split(':').filter((path) => isAbsolute(path));
}

export function xdgFolders(env: NodeJS.ProcessEnv = process.env): Folders {
  const home = absolute(env.HOME, homedir());
  const dataHome = absolute(env.XDG_DATA_HOME, join(home, '.local/share'));
  const configHome = absolute(env.XDG_CONFIG_HOME, join(home, '.config'));
  return {
    home,
    dataHome,
    configHome,
    stateHome: absolute(env.XDG_STATE_HOME, join(home, '.local/state')),
    data: [dataHome, ...several(env.XDG_DATA_DIRS, '/usr/local/share:/usr/share')],
    config: [configHome, ...several(env.XDG_CONFIG_DIRS, '/etc/xdg')],
  };
}

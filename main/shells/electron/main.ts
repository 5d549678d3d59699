/** Entry of the app in Electron. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { app as electron } from 'electron';
import { TorporError } from '../../../api/errors.ts';
import { enginePaths } from '../../../api/paths.ts';
import { xdgFolders } from '../../desktop/folders.ts';
import { rendererFolder, resource, runApp, type ShellMaker } from '../../run.ts';
import { ownWords } from './own-words.ts';
import { ElectronShell, registerScheme } from './shell.ts';

const here = dirname(fileURLToPath(import.meta.url));

electron.setName('Torpor');
electron.setDesktopName('torpor.desktop');
// Apps of engines that run side by side keep apart.
electron.setPath('userData', join(xdgFolders().stateHome, 'torpor', `electron-${enginePaths().tag}`));
electron.enableSandbox();
registerScheme();
// The app lives on in the tray.
electron.on('window-all-closed', () => {});

/** Not awaited at the top: Electron is ready only when this module has been run to its end. */
async function run(): Promise<void> {
  await electron.whenReady();
  const words = ownWords(process.argv, electron.isPackaged ? undefined : fileURLToPath(import.meta.url));
  electron.exit(await runApp(words, makeShell));
}

const makeShell: ShellMaker = async (app, desktop) => {
  // The socket of instance.ts decides who is first; this also keeps Electron's own files to one process.
  if (!electron.requestSingleInstanceLock())
    throw new TorporError(
      'failed',
      'Another process uses the files of Torpor’s windows.',
      'End it and start Torpor again.',
    );
  const shell = new ElectronShell(app, {
    pages: rendererFolder(),
    preload: join(here, 'preload.cjs'),
    icon: resource('torpor.png'),
    openExternal: (address) => desktop.openExternal(address),
  });
  return {
    shell,
    invite: async () => {
      throw new TorporError(
        'failed',
        'Torpor runs with windows of its own, so it has no address for a browser.',
        'End it with `torpor ui --quit`, then run `torpor ui --browser`.',
      );
    },
    [Symbol.asyncDispose]: () => shell[Symbol.asyncDispose](),
  };
};

void run();

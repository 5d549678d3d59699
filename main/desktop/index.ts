/** The user's desktop as the app knows it: made of the parts in this folder, without anything of a shell's. */

import { join } from 'node:path';
import type { Desktop } from '../desktop-parts.ts';
import type { Notice } from '../ipc/view.ts';
import { OpenWindows } from '../x11/open-windows.ts';
import { InstalledApplications } from './applications.ts';
import { xdgFolders } from './folders.ts';
import { localeName, userLocale } from './locale.ts';
import { Notifications } from './notifications.ts';
import { openExternal } from './open-external.ts';
import { MachinePower } from './power.ts';
import { AppStore } from './store.ts';
import { programsInTerminals } from './terminal-programs.ts';

export interface UserDesktop extends Desktop, AsyncDisposable {
  /** What went wrong while it was opened, to be told once there is a window. */
  problem: Notice | undefined;
}

export async function openDesktop(env: NodeJS.ProcessEnv = process.env): Promise<UserDesktop> {
  const folders = xdgFolders(env);
  const locale = userLocale(env);
  const store = new AppStore(folders);
  const desktops = (env.XDG_CURRENT_DESKTOP ?? '').split(':').filter(Boolean);
  const applications = new InstalledApplications(folders, locale, desktops, store);
  const [notifications, windows, power] = await Promise.all([
    Notifications.open(env.DBUS_SESSION_BUS_ADDRESS),
    OpenWindows.open(env),
    MachinePower.open(),
  ]);
  return {
    applications,
    windows,
    power,
    stateFolder: join(folders.stateHome, 'torpor'),
    settings: store,
    placements: store.placements,
    locale: localeName(locale),
    openExternal,
    programs: programsInTerminals,
    notify: async (notice) => (await notifications?.show(notice)) ?? false,
    problem: store.problem,
    async [Symbol.asyncDispose]() {
      windows?.[Symbol.dispose]();
      await power?.[Symbol.asyncDispose]();
      await notifications?.[Symbol.asyncDispose]();
    },
  };
}

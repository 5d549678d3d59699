/**
 * Entry of the app where it is not Electron's: shows its windows with the system's Chromium, or by an address for a
 * browser where there is no display or no Chromium. Electron's entry is main/shells/electron/main.ts.
 */
import { hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { enginePaths } from '../api/paths.ts';
import type { App } from './app.ts';
import { xdgFolders } from './desktop/folders.ts';
import type { UserDesktop } from './desktop/index.ts';
import type { Request } from './request.ts';
import { type RunningShell, rendererFolder, runApp } from './run.ts';
import { BrowserShell } from './shells/browser.ts';
import { findChromium, hasDisplay } from './shells/chromium/find.ts';
import { ChromiumShell, type DesktopParts } from './shells/chromium/shell.ts';
import { StatusNotifierTray } from './tray/status-notifier/tray.ts';
import { WebServer } from './web/server.ts';

async function makeShell(app: App, desktop: UserDesktop, request: Request): Promise<RunningShell> {
  const server = await WebServer.start({ host: app, pages: rendererFolder() });
  const parts: DesktopParts = {
    tray: await StatusNotifierTray.open(),
    notify: (notice) => desktop.notify(notice),
    openExternal: (address) => desktop.openExternal(address),
  };
  const program = request.browser || !hasDisplay() ? undefined : findChromium();
  const shell =
    program === undefined
      ? new BrowserShell(server, parts)
      : new ChromiumShell(server, parts, {
          program,
          profile: join(xdgFolders().stateHome, 'torpor', `chromium-${enginePaths().tag}`),
          flags: (process.env.TORPOR_CHROMIUM_FLAGS ?? '').split(/\s+/).filter(Boolean),
        });
  return {
    shell,
    invite: async (ssh) => {
      const address = shell.kind === 'browser' ? shell.invite() : server.newAddress({ lasting: true });
      return { address, text: invitation(address, server.port, ssh) };
    },
    async [Symbol.asyncDispose]() {
      await shell[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** How to reach the windows with a browser; from another machine too, where the user is logged in from one. */
function invitation(address: string, port: number, ssh: string | undefined): string {
  const lines = ['Open this address in a browser on this machine; it works once:', '', `  ${address}`];
  if (ssh !== undefined) {
    const [, , machine = hostname()] = ssh.split(' ');
    lines.push(
      '',
      'From the machine that you are logged in from, first forward the port, then open the address there:',
      '',
      `  ssh -L ${port}:127.0.0.1:${port} ${userInfo().username}@${machine}`,
    );
  }
  return [...lines, '', 'Another address: torpor ui --browser. To end the app: torpor ui --quit.'].join('\n');
}

process.exit(await runApp(process.argv.slice(2), makeShell));

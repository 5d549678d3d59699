/**
 * What the app puts into the user's desktop: its own entry and icon, "Open in Torpor" for files, and the entry that starts
 * it with the log-in. All are files of the user's own, written only where they differ.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Application } from '../ipc/view.ts';
import type { Folders } from './folders.ts';

/** Id of "Open in Torpor", which is an application to the desktop but not to Torpor. */
export const openInTorporId = 'torpor-open.desktop';

/** The words of the entries, in one language each. */
export interface EntryTexts {
  language: string;
  comment: string;
  openIn: string;
  suspendAll: string;
}

interface Installation {
  folders: Folders;
  /** The `torpor` command, absolute. */
  command: string;
  /** Contents of the icon, an SVG. */
  icon: string;
  texts: readonly EntryTexts[];
}

/** A program and its arguments as the Exec key has them. */
export function execLine(argv: readonly string[]): string {
  return argv
    .map((word) =>
      /^[\w@%+=:,./-]+$/.test(word) ? word : `"${word.replace(/["`$\\]/g, '\\$&').replaceAll('%', '%%')}"`,
    )
    .join(' ');
}

const localized = (key: string, texts: readonly EntryTexts[], pick: (texts: EntryTexts) => string) =>
  texts.map((each) => `${key}${each.language === 'en' ? '' : `[${each.language}]`}=${pick(each)}`).join('\n');

/** Writes entry, icon and "Open in Torpor"; idempotent. */
export async function installEntries(
  { folders, command, icon, texts }: Installation,
  applications: readonly Application[],
): Promise<void> {
  const types = [...new Set(applications.flatMap(({ mimeTypes }) => mimeTypes))].sort();
  await put(join(folders.dataHome, 'icons/hicolor/scalable/apps/torpor.svg'), icon);
  await put(
    join(folders.dataHome, 'applications/torpor.desktop'),
    `[Desktop Entry]
Type=Application
Name=Torpor
${localized('Comment', texts, ({ comment }) => comment)}
Exec=${execLine([command, 'ui'])}
Icon=torpor
Terminal=false
Categories=Utility;
StartupWMClass=Torpor
Actions=suspend-all;

[Desktop Action suspend-all]
${localized('Name', texts, ({ suspendAll }) => suspendAll)}
Exec=${execLine([command, 'suspend', '--all'])}
`,
  );
  await put(
    join(folders.dataHome, 'applications', openInTorporId),
    `[Desktop Entry]
Type=Application
${localized('Name', texts, ({ openIn }) => openIn)}
Exec=${execLine([command, 'ui', '--open'])} %F
Icon=torpor
Terminal=false
NoDisplay=true
MimeType=${types.map((type) => `${type};`).join('')}
`,
  );
}

/** Takes them away again. */
export async function removeEntries(folders: Folders): Promise<void> {
  for (const path of [
    'icons/hicolor/scalable/apps/torpor.svg',
    'applications/torpor.desktop',
    join('applications', openInTorporId),
  ])
    await rm(join(folders.dataHome, path), { force: true });
}

/** Has the app start with the log-in, in the tray only, or no longer. */
export async function setAutostart(folders: Folders, command: string, enabled: boolean): Promise<void> {
  const path = join(folders.configHome, 'autostart/torpor.desktop');
  if (!enabled) {
    await rm(path, { force: true });
    return;
  }
  await put(
    path,
    `[Desktop Entry]
Type=Application
Name=Torpor
Exec=${execLine([command, 'ui', '--tray'])}
Icon=torpor
Terminal=false
X-GNOME-Autostart-enabled=true
`,
  );
}

async function put(path: string, text: string): Promise<void> {
  if ((await readFile(path, 'utf8').catch(() => undefined)) === text) return;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}

/**
 * What the app puts into the user's desktop: its own entry and icon, "Open in Torpor" for files, and the entry that starts
 * it with the log-in. All are files of the user's own, written only where they differ.
 */
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Folders } from './folders.ts';
import { isProgram } from './programs.ts';

/** Id of the app's own entry, by which a user can open files in Torpor, but not Torpor. */
export const ownEntry = 'torpor.desktop';

const executable = 0o755;
const scriptName = 'Open in Torpor';

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

/** File managers with a menu of scripts, each with its folder for them. */
const scriptFolders = (folders: Folders) => [
  { program: 'nautilus', folder: join(folders.dataHome, 'nautilus/scripts') },
  { program: 'nemo', folder: join(folders.dataHome, 'nemo/scripts') },
  { program: 'caja', folder: join(folders.configHome, 'caja/scripts') },
];

/**
 * Writes the icon, the app's entry, and "Open in Torpor" for the menus of file managers; idempotent. The entry takes files
 * but names no types: an entry of the user's own that did would become the default application for them.
 */
export async function installEntries({ folders, command, icon, texts }: Installation): Promise<void> {
  await put(join(folders.dataHome, 'icons/hicolor/scalable/apps/torpor.svg'), icon);
  await put(
    join(folders.dataHome, 'applications', ownEntry),
    `[Desktop Entry]
Type=Application
Name=Torpor
${localized('Comment', texts, ({ comment }) => comment)}
Exec=${execLine([command, 'ui'])} %F
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
    join(folders.dataHome, 'kio/servicemenus/torpor-open.desktop'),
    `[Desktop Entry]
Type=Service
MimeType=all/allfiles;
Actions=open-in-torpor;

[Desktop Action open-in-torpor]
${localized('Name', texts, ({ openIn }) => openIn)}
Icon=torpor
Exec=${execLine([command, 'ui'])} %F
`,
    executable,
  );
  const quoted = `'${command.replaceAll("'", "'\\''")}'`;
  for (const { program, folder } of scriptFolders(folders))
    if (await isProgram(program))
      await put(join(folder, scriptName), `#!/bin/sh\nexec ${quoted} ui -- "$@"\n`, executable);
}

/** Takes them away again. */
export async function removeEntries(folders: Folders): Promise<void> {
  for (const path of [
    ...['icons/hicolor/scalable/apps/torpor.svg', join('applications', ownEntry)],
    'kio/servicemenus/torpor-open.desktop',
  ])
    await rm(join(folders.dataHome, path), { force: true });
  for (const { folder } of scriptFolders(folders)) await rm(join(folder, scriptName), { force: true });
}

/** A package's unit of the app (packaging/systemd/user), where systemd looks for it. */
export const packagedUnit = '/usr/lib/systemd/user/torpor-app.service';

/**
 * Has the app start with the log-in, in the tray only, or no longer. Where a package has brought a unit of it, the user's systemd
 * starts that in graphical sessions that it knows of, and desktops that have it start their entries leave this one alone.
 */
export async function setAutostart(
  folders: Folders,
  command: string,
  enabled: boolean,
  unit = packagedUnit,
): Promise<void> {
  const path = join(folders.configHome, 'autostart/torpor.desktop');
  const link = join(folders.configHome, 'systemd/user/graphical-session.target.wants/torpor-app.service');
  await rm(link, { force: true });
  if (!enabled) {
    await rm(path, { force: true });
    return;
  }
  const text = await readFile(unit, 'utf8').catch(() => '');
  const hasUnit = text.includes(`ExecStart=${command} ui `);
  if (hasUnit) {
    await mkdir(dirname(link), { recursive: true });
    await symlink(unit, link);
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
${hasUnit ? 'X-systemd-skip=true\n' : ''}`,
  );
}

async function put(path: string, text: string, mode = 0o644): Promise<void> {
  if ((await readFile(path, 'utf8').catch(() => undefined)) === text) return;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  await chmod(path, mode);
}

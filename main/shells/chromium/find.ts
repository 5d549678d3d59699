/** Which Chromium there is: any browser of its family will do, as only its app mode and its pipe are used. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';

const names = [
  'chromium',
  'chromium-browser',
  'google-chrome-stable',
  'google-chrome',
  'google-chrome-beta',
  'brave-browser',
  'microsoft-edge-stable',
  'vivaldi-stable',
];

/** @returns its path; `TORPOR_CHROMIUM` names one that is not in PATH or not the first */
export function findChromium(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const own = env.TORPOR_CHROMIUM;
  if (own) return isAbsolute(own) && isProgram(own) ? own : undefined;
  const folders = (env.PATH ?? '').split(delimiter).filter(isAbsolute);
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isProgram);
}

/** Whether windows can be shown at all. */
export function hasDisplay(env: NodeJS.ProcessEnv = process.env): boolean {
  return Boolean(env.WAYLAND_DISPLAY || env.DISPLAY);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

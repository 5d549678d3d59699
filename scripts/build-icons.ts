/** The app's icon as files: what packages install, and what Electron gives its windows. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { encode } from 'fast-png';
import { drawTrayIcon } from '../main/tray/icon.ts';

const sizes = [48, 128, 256, 512];
const windowSize = 256;

const png = (size: number) =>
  encode({ width: size, height: size, data: drawTrayIcon({ status: 'idle' }, size), channels: 4, depth: 8 });

export async function buildIcons(): Promise<void> {
  await mkdir('build/icons', { recursive: true });
  for (const size of sizes) await writeFile(`build/icons/${size}x${size}.png`, png(size));
  await writeFile('build/torpor.png', png(windowSize));
  await copyFile('main/assets/torpor.svg', 'build/torpor.svg');
}

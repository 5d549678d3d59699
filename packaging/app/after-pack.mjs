/**
 * Between the packager's copying and its packing: CRIU's program names its loader by where it is on the machine that builds
 * (scripts/setup/criu.sh), and deb and rpm put it elsewhere.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** @param {{ appOutDir: string }} context */
export default function afterPack({ appOutDir }) {
  const folder = 'resources/engine/criu';
  // None with the system's own CRIU.
  if (!existsSync(join(appOutDir, folder, 'ld.so'))) return;
  execFileSync('patchelf', [
    '--set-interpreter',
    `/opt/Torpor/${folder}/ld.so`,
    join(appOutDir, folder, 'criu'),
  ]);
}

/** By what two starts of an application are the same one. */
import { createHash } from 'node:crypto';
import type { CapsuleSpec } from '../../proto/manifest.ts';

/** Of the terminal that it was started from, and of no application that shows a window. */
const unimportant = new Set(['TERM']);

/**
 * A hash of all that was chosen for a start, 64 hexadecimal digits: command, folder, environment, user, root, screen,
 * profiles, and the engine's version. Pure.
 */
export function keyOf(capsule: CapsuleSpec, version: string): string {
  const { command, cwd, env, root, user, geometry, application, cpuBaseline, profiles, layer, hostMounts } =
    capsule;
  const environment = Object.entries(env)
    .filter(([name]) => !unimportant.has(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const paths = hostMounts.map(({ path }) => path);
  const chosen = [
    command,
    cwd,
    environment,
    root,
    user,
    geometry,
    application,
    cpuBaseline,
    profiles,
    layer,
    paths,
  ];
  return createHash('sha256')
    .update(JSON.stringify([version, chosen]))
    .digest('hex');
}

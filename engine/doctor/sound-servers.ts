/** Where a user's sound server is, by the environment of their session, as libpulse goes by it. */
import { join } from 'node:path';

export type SoundServer = { kind: 'socket'; path: string } | { kind: 'network'; address: string };

/** One for the whole machine. */
const systemSocket = '/run/pulse/native';

/** In the order in which they are tried. */
export function soundServers(env: Readonly<Record<string, string>>): SoundServer[] {
  if (env.PULSE_SERVER) return env.PULSE_SERVER.split(/\s+/).filter(Boolean).map(parseAddress);
  const folder = env.PULSE_RUNTIME_PATH || (env.XDG_RUNTIME_DIR && join(env.XDG_RUNTIME_DIR, 'pulse'));
  const paths = [...(folder ? [join(folder, 'native')] : []), systemSocket];
  return paths.map((path) => ({ kind: 'socket', path }));
}

/** `{MACHINE}` before it says which machine it is for, and what has neither form is a host. */
function parseAddress(text: string): SoundServer {
  const address = text.replace(/^\{[^}]*\}/, '');
  if (address.startsWith('/')) return { kind: 'socket', path: address };
  if (address.startsWith('unix:')) return { kind: 'socket', path: address.slice('unix:'.length) };
  return { kind: 'network', address };
}

import { describe, expect, it } from 'vitest';
import { soundServers } from '../../engine/doctor/sound-servers.ts';

const socket = (path: string) => ({ kind: 'socket', path });
const network = (address: string) => ({ kind: 'network', address });

describe('the sound servers of a session', () => {
  it.each([
    [{}, [socket('/run/pulse/native')]],
    [{ XDG_RUNTIME_DIR: '/r' }, [socket('/r/pulse/native'), socket('/run/pulse/native')]],
    [{ XDG_RUNTIME_DIR: '/r', PULSE_RUNTIME_PATH: '/p' }, [socket('/p/native'), socket('/run/pulse/native')]],
    [{ XDG_RUNTIME_DIR: '/r', PULSE_SERVER: '/s' }, [socket('/s')]],
    [
      { PULSE_SERVER: '{0123}unix:/s tcp:host:4713  host' },
      [socket('/s'), network('tcp:host:4713'), network('host')],
    ],
  ])('by %j', (env, servers) => {
    expect(soundServers(env)).toEqual(servers);
  });
});

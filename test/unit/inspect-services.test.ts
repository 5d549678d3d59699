/** Who is at the other end of a unix socket, by where it lies and by its program. */
import { describe, expect, test } from 'vitest';
import { type Facts, nothingHidden, type ProcessFacts } from '../../engine/inspect/facts.ts';
import { serviceOf } from '../../engine/inspect/services.ts';
import { unixSockets } from '../../engine/inspect/ties/unix-sockets.ts';

describe('services', () => {
  test.each([
    ['/run/user/1000/bus', 'dbus-daemon', 'the session bus'],
    ['/run/user/1000/bus', 'dbus-broker', 'the session bus'],
    ['@/tmp/dbus-8aZbQ', 'dbus-daemon', 'the session bus'],
    ['/run/dbus/system_bus_socket', 'dbus-daemon', 'the system bus'],
    ['/var/run/dbus/system_bus_socket', undefined, 'the system bus'],
    ['/run/user/1000/at-spi/bus_0', 'dbus-daemon', 'the accessibility bus'],
    ['/run/user/1000/pulse/native', 'pipewire-pulse', 'the sound server PulseAudio'],
    ['/run/user/1000/pipewire-0', 'pipewire', 'the sound and video server PipeWire'],
    ['@/tmp/.X11-unix/X0', 'Xorg', 'the X server'],
    ['/tmp/.X11-unix/X1', 'Xwayland', 'the X server'],
    ['/run/user/1000/wayland-0', 'gnome-shell', 'the Wayland compositor'],
    ['/run/user/1000/systemd/private', 'systemd', 'systemd'],
    ['/run/systemd/notify', 'systemd', 'systemd'],
    ['/run/systemd/journal/stdout', 'systemd-journal', 'the system log'],
    ['/tmp/ssh-XXXXAbCdEf/agent.1234', 'ssh-agent', 'the SSH agent'],
    ['/run/user/1000/gnupg/S.gpg-agent.ssh', 'gpg-agent', 'the GnuPG agent'],
    ['/run/user/1000/keyring/control', 'gnome-keyring-d', 'the keyring'],
    ['/tmp/tmux-1000/default', 'tmux: server', 'tmux'],
    ['', 'Xwayland', 'the X server'],
    ['/home/me/own.sock', 'my-server', undefined],
    ['', undefined, undefined],
    ['/home/me/bus', 'my-server', undefined],
  ])('%s of %s: %s', (path, program, name) => {
    expect(serviceOf(path, program)).toBe(name);
  });

  test('are named with the process', () => {
    const process = {
      pid: 12,
      name: 'gimp',
      descriptors: [
        { kind: 'socket', inode: 5, fd: 3, target: '', flags: 0, mount: 1, locked: false, leased: false },
      ],
    } as unknown as ProcessFacts;
    const socket = { type: 'stream', state: 'established', unsent: 0, waiting: [] };
    const facts = {
      processes: [process],
      isCapsule: false,
      strangers: [],
      hidden: nothingHidden,
      unixSockets: new Map([
        [5, { ...socket, inode: 5, peer: 6, path: '' }],
        [6, { ...socket, inode: 6, peer: 5, path: '/run/user/1000/bus' }],
      ]),
      outsiders: new Map([['socket:6', { pid: 812, name: 'dbus-daemon' }]]),
    } as unknown as Facts;
    const [finding] = unixSockets(facts);
    expect(finding?.what).toBe('gimp (pid 12) talks to the session bus (dbus-daemon, pid 812).');
    const [unseen] = unixSockets({ ...facts, outsiders: new Map() });
    expect(unseen?.what).toBe('gimp (pid 12) talks to the session bus.');
  });
});

/** Who is at the other end of a unix socket, by where it lies and by its program. */
import { describe, expect, test } from 'vitest';
import { type Facts, nothingHidden, type ProcessFacts } from '../../engine/inspect/facts.ts';
import { serviceOf } from '../../engine/inspect/services.ts';
import { unixSockets, usualDecisions } from '../../engine/inspect/ties/unix-sockets.ts';

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

  const talkingTo = (path: string, program: string, more: object = {}) => {
    const socket = { type: 'stream', state: 'established', unsent: 0, waiting: [] };
    return {
      processes: [{ pid: 12, name: 'app', descriptors: [{ kind: 'socket', inode: 5, fd: 3 }] }],
      strangers: [],
      hidden: nothingHidden,
      unixSockets: new Map([
        [5, { ...socket, inode: 5, peer: 6, path: '' }],
        [6, { ...socket, inode: 6, peer: 5, path }],
      ]),
      outsiders: new Map([['socket:6', { pid: 812, name: program }]]),
      ...more,
    } as unknown as Facts;
  };

  test.each([
    ['/tmp/ssh-XXXXAbCdEf/agent.1234', 'ssh-agent', 'handled', 'reconnect'],
    ['/run/user/1000/keyring/ssh', 'gnome-keyring-d', 'handled', 'reconnect'],
    ['/run/user/1000/keyring/control', 'gnome-keyring-d', 'blocking', undefined],
    ['/run/user/1000/gnupg/S.gpg-agent.ssh', 'gpg-agent', 'handled', 'reconnect'],
    ['/run/user/1000/gnupg/S.gpg-agent', 'gpg-agent', 'degraded', 'hang-up'],
    ['/dev/log', 'syslogd', 'handled', 'reconnect'],
    ['/run/systemd/journal/stdout', 'systemd-journal', 'blocking', undefined],
    ['/run/user/1000/pulse/native', 'pulseaudio', 'degraded', 'hang-up'],
    ['/run/user/1000/pipewire-0', 'pipewire', 'degraded', 'hang-up'],
    ['/run/user/1000/at-spi/bus_0', 'dbus-daemon', 'degraded', 'hang-up'],
    ['@/home/me/.cache/ibus/dbus-q8TgH', 'ibus-daemon', 'degraded', 'hang-up'],
    ['@/tmp/.X11-unix/X0', 'Xorg', 'blocking', undefined],
    ['/run/user/1000/wayland-0', 'gnome-shell', 'blocking', undefined],
    ['/home/me/own.sock', 'my-server', 'blocking', undefined],
    [
      '/run/user/1000/bus',
      'dbus-daemon',
      'degraded',
      { kind: 'bus', path: '/run/user/1000/bus', pids: [12] },
    ],
    ['@/tmp/dbus-8aZbQ', 'dbus-daemon', 'degraded', { kind: 'bus', path: '@/tmp/dbus-8aZbQ', pids: [12] }],
  ])('where nothing was chosen, a connection to %s of %s is %s', (path, program, verdict, decision) => {
    const facts = talkingTo(path, program);
    expect(unixSockets(facts)).toMatchObject([{ verdict }]);
    expect(usualDecisions(facts).get(5)).toEqual(decision);
    // Whatever is usual, the user's choice goes for all.
    for (const externalSockets of ['block', 'hang-up'] as const)
      expect(usualDecisions({ ...facts, externalSockets }).size).toBe(0);
    expect(unixSockets({ ...facts, externalSockets: 'block' })).toMatchObject([{ verdict: 'blocking' }]);
  });

  test('of which a program has two connections to a bus are not told apart', () => {
    const facts = talkingTo('/run/user/1000/bus', 'dbus-daemon');
    const socket = { type: 'stream', state: 'established', unsent: 0, waiting: [] };
    const two = {
      ...facts,
      processes: [
        { pid: 12, name: 'app', descriptors: [5, 7].map((inode) => ({ kind: 'socket', inode, fd: inode })) },
      ],
      unixSockets: new Map([
        ...facts.unixSockets,
        [7, { ...socket, inode: 7, peer: 8, path: '' }],
        [8, { ...socket, inode: 8, peer: 7, path: '/run/user/1000/bus' }],
      ]),
    } as unknown as Facts;
    const [finding] = unixSockets(two);
    expect(finding?.verdict).toBe('blocking');
    expect(finding?.hint).toContain('which is which');
    expect(usualDecisions(two).size).toBe(0);
  });

  test('to which one of ours stands between are known by that', () => {
    const busLine = { path: '/run/user/1000/bus', shown: ':1.7' };
    const facts = talkingTo('', 'torpor-buslines', {
      outsiders: new Map([['socket:6', { pid: 900, name: 'torpor-buslines', busLine }]]),
    });
    expect(usualDecisions(facts).get(5)).toEqual({ kind: 'bus', ...busLine, pids: [900] });
    expect(usualDecisions({ ...facts, isCapsule: true }).size).toBe(0);
  });

  test('are not let go of while they are asked', () => {
    const path = '/tmp/ssh-XXXXAbCdEf/agent.1234';
    const [finding] = unixSockets(talkingTo(path, 'ssh-agent', { awaited: new Set([5]) }));
    expect(finding).toMatchObject({ verdict: 'blocking', hint: 'Try again in a moment.' });
  });
});

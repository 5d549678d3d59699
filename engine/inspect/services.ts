/**
 * What listens at a unix socket, in a user's words: known by where the socket lies and by which program has it. A table of
 * data; what is in no line of it is named by its program and path alone.
 */
import { basename } from 'node:path';

interface Service {
  /** As in "talks to NAME". */
  name: string;
  /** Where such a service listens. An abstract name begins with `@`. */
  paths: readonly RegExp[];
  /** Programs that are nothing else. */
  programs: readonly string[];
}

/** The first line that fits wins. Process names are cut to 15 characters by the kernel. */
const services: readonly Service[] = [
  {
    name: 'the accessibility bus',
    paths: [/\/at-spi\/bus/, /\/at-spi2-[^/]+\//],
    programs: ['at-spi-bus-laun', 'at-spi2-registr'],
  },
  { name: 'the system bus', paths: [/\/dbus\/system_bus_socket$/], programs: [] },
  {
    name: 'the session bus',
    paths: [/^\/run\/user\/\d+\/bus$/, /^@?\/tmp\/dbus-/],
    // The last one is ours, which stands between since a resume.
    programs: ['dbus-daemon', 'dbus-broker', 'dbus-broker-lau', 'torpor-buslines'],
  },
  {
    name: 'the sound server PulseAudio',
    paths: [/\/pulse(?:-[^/]+)?\/native$/],
    programs: ['pulseaudio', 'pipewire-pulse'],
  },
  {
    name: 'the sound and video server PipeWire',
    paths: [/\/pipewire-\d+(?:-manager)?$/],
    programs: ['pipewire', 'wireplumber'],
  },
  {
    name: 'the sound server JACK',
    paths: [/^\/dev\/shm\/jack/, /^\/tmp\/jack-\d+\//],
    programs: ['jackd', 'jackdbus'],
  },
  {
    name: 'the X server',
    paths: [/^@?\/tmp\/\.X11-unix\/X\d+$/],
    programs: ['Xorg', 'Xwayland', 'Xvnc', 'Xtigervnc', 'Xvfb', 'Xephyr', 'X'],
  },
  {
    name: 'the Wayland compositor',
    paths: [/\/wayland-\d+$/],
    programs: ['gnome-shell', 'kwin_wayland', 'sway', 'weston', 'labwc', 'Hyprland', 'mutter', 'wayfire'],
  },
  {
    name: 'the X session manager',
    paths: [/^@?\/tmp\/\.ICE-unix\//],
    programs: ['gnome-session-b', 'ksmserver', 'xfce4-session'],
  },
  {
    name: 'the system log',
    paths: [/^\/dev\/log$/, /\/systemd\/journal\//],
    programs: ['systemd-journal', 'rsyslogd', 'syslogd'],
  },
  {
    name: 'the name service cache',
    paths: [/\/nscd\/socket$/, /\/systemd\/userdb\//],
    programs: ['nscd', 'systemd-userdbd', 'sssd_nss'],
  },
  { name: 'systemd', paths: [/\/systemd\/(?:private|notify|user)/], programs: ['systemd'] },
  {
    name: 'the keyring',
    paths: [/\/keyring(?:-[^/]+)?\/(?:control|pkcs11|\.?ssh)$/, /\/kwallet\d*\.socket$/],
    programs: ['gnome-keyring-d', 'kwalletd5', 'kwalletd6', 'keepassxc'],
  },
  {
    name: 'the GnuPG agent',
    paths: [/\/S\.(?:gpg-agent|scdaemon|keyboxd|dirmngr)[^/]*$/],
    programs: ['gpg-agent', 'scdaemon', 'keyboxd', 'dirmngr'],
  },
  {
    name: 'the SSH agent',
    paths: [/\/ssh-[^/]+\/agent\.\d+$/, /\/(?:openssh_agent|ssh-agent[^/]*)$/],
    programs: ['ssh-agent'],
  },
  {
    name: 'the input method',
    paths: [/\/ibus\/dbus-[^/]+$/, /\/fcitx-socket-[^/]+$/],
    programs: ['ibus-daemon', 'fcitx', 'fcitx5'],
  },
  { name: 'tmux', paths: [/\/tmux-\d+\//], programs: ['tmux: server', 'tmux: client', 'tmux'] },
  { name: 'screen', paths: [/\/(?:S-|screen\/)[^/]+\/\d+\./], programs: ['screen', 'SCREEN'] },
  { name: 'the printer service', paths: [/\/cups\/cups\.sock$/], programs: ['cupsd'] },
  { name: 'Docker', paths: [/\/docker\.sock$/], programs: ['dockerd'] },
];

/** The service at this path, or whose program it is; the path says more, because one program can serve many. */
export function serviceOf(path: string, program: string | undefined): string | undefined {
  const byPath =
    path === '' ? undefined : services.find(({ paths }) => paths.some((each) => each.test(path)));
  if (byPath !== undefined) return byPath.name;
  const name = basename(program ?? '');
  return services.find(({ programs }) => programs.includes(name))?.name;
}

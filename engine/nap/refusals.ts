/**
 * What keeps processes from being napped, though they are the caller's: others wait for what they do, or the user does. Each
 * is a finding with a tie of its own. What only the user misses, the user may do without (`canWaive`).
 */
import type { Finding } from '../../api/types.ts';
import { textOf } from '../inspect/kernel-files.ts';
import { readProcessLine } from '../inspect/proc.ts';
import { serviceOf } from '../inspect/services.ts';

/** What of the tree bears on it. */
export interface Napper {
  pids: readonly number[];
  /** Its processes are all in a capsule, with an X server, a bus and a sound server that nobody else needs. */
  isCapsule: boolean;
  /** Who asks for it. */
  callerPid: number | undefined;
}

/** Ties of which the user may say that they do not matter now. */
const waivable: ReadonlySet<string> = new Set([
  'terminal-job',
  'focus',
  'sound',
  'recording',
  'transfer',
  'excluded',
]);

export const canWaive = ({ tie }: Finding): boolean => waivable.has(tie);

const finding = (tie: string, what: string, hint: string, pid?: number): Finding => ({
  tie,
  verdict: 'blocking',
  by: '',
  ...(pid === undefined ? {} : { pid }),
  what,
  hint,
});

/**
 * Parts of a desktop on which all other windows depend, beside those in {@link serviceOf}. Process names are cut to 15
 * characters by the kernel.
 */
const desktopPrograms: readonly RegExp[] = [
  /^(?:plasmashell|kwin_x11|kded[56]|kglobalaccel|ksmserver|lxqt-(?:panel|session|runner)|lxpanel|lxsession)/,
  /^(?:xfwm4|xfce4-(?:panel|session|power-man)|xfdesktop|xfsettingsd|marco|mate-(?:panel|session|settin))/,
  /^(?:cinnamon|muffin|budgie-|metacity|mutter|openbox|fluxbox|icewm|i3|awesome|bspwm|herbstluft|dwm|enlightenment)/,
  /^(?:gnome-(?:shell|session)|gsd-|gvfsd|dconf-service|xdg-(?:desktop-por|document-po|permission)|polkit)/,
  /^(?:gdm|lightdm|sddm|xdm|login|sshd|systemd|agetty|sudo|su$|pkexec|picom|compton|xcompmgr)/,
];

/** What others wait for in a process of this name; undefined for an application. Pure. */
export const findRole = (name: string): string | undefined =>
  serviceOf('', name) ??
  (desktopPrograms.some((pattern) => pattern.test(name)) ? 'a part of the desktop' : undefined);

function findingsAboutRoles({ pids, isCapsule }: Napper): Finding[] {
  if (isCapsule) return [];
  return pids.flatMap((pid) => {
    const name = readProcessLine(pid)?.name ?? '';
    const role = findRole(name);
    if (role === undefined) return [];
    return finding(
      'role',
      `${name} (process ${pid}) is ${role}, which other applications wait for.`,
      'Nap an application.',
      pid,
    );
  });
}

function findingsAboutCaller({ pids, callerPid }: Napper): Finding[] {
  for (let pid = callerPid ?? 0; pid > 1; pid = readProcessLine(pid)?.ppid ?? 0)
    if (pids.includes(pid))
      return [
        finding(
          'caller',
          `Who asks for it runs in it, below ${readProcessLine(pid)?.name ?? '?'} (process ${pid}), and would stand still, too.`,
          'Ask from somewhere else.',
          pid,
        ),
      ];
  return [];
}

/** Who waits for a lock that others hold, by the holder's pid. Pure; /proc/locks (proc(5)). */
export function parseLockWaits(text: string): { holder: number; waiter: number; what: string }[] {
  const holders = new Map<string, { pid: number; kind: string }[]>();
  const waits: { holder: number; waiter: number; what: string }[] = [];
  for (const line of text.split('\n')) {
    const [, number = '', arrow, kind = '', pid] =
      /^(\d+): (-> )?(\w+)\s+\S+\s+\S+\s+(-?\d+) /.exec(line) ?? [];
    if (pid === undefined) continue;
    if (arrow === undefined)
      holders.set(number, [...(holders.get(number) ?? []), { pid: Number(pid), kind }]);
    else
      for (const holder of holders.get(number) ?? [])
        waits.push({ holder: holder.pid, waiter: Number(pid), what: kind });
  }
  return waits;
}

function findingsAboutLocks({ pids }: Napper): Finding[] {
  const inside = new Set(pids);
  return parseLockWaits(textOf('/proc/locks') ?? '')
    .filter(({ holder, waiter }) => inside.has(holder) && !inside.has(waiter))
    .map(({ holder, waiter }) =>
      finding(
        'lock',
        `${readProcessLine(holder)?.name ?? '?'} (process ${holder}) has locked a file for which ${readProcessLine(waiter)?.name ?? '?'} (process ${waiter}) waits.`,
        'Try again when it has let go of it.',
        holder,
      ),
    );
}

/** Fields of /proc/PID/stat behind the name: its process group, and the one that has the terminal. */
function groupsOf(pid: number): { group: number; foreground: number } | undefined {
  const line = textOf(`/proc/${pid}/stat`);
  if (line === undefined) return undefined;
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return { group: Number(fields[2]), foreground: Number(fields[5]) };
}

/** What waits for commands, and does nothing by itself. */
export const shell = /^-?(?:ba|da|z|k|fi|tc|c|a)?sh$/;

/** A terminal that is meant has something running in it: in front of a shell, or in place of one. */
function findingsAboutTerminals({ pids, isCapsule }: Napper): Finding[] {
  const inside = new Set(pids);
  return pids.flatMap((pid) => {
    const line = readProcessLine(pid);
    // The leader of a session with a terminal, started by what is meant, too: by a terminal emulator.
    if (line === undefined || line.session !== pid || line.terminal === 0 || !inside.has(line.ppid))
      return [];
    const groups = groupsOf(pid);
    if (groups === undefined || groups.foreground <= 0) return [];
    // In a capsule it is what the terminal was started for, and meant itself.
    if (groups.foreground === groups.group && (isCapsule || shell.test(line.name))) return [];
    const job = readProcessLine(groups.foreground)?.name ?? 'something';
    return finding(
      'terminal-job',
      `${job} (process ${groups.foreground}) runs in its terminal, and would stand still.`,
      'Wait for its end, or say that it may wait: `--anyway`.',
      groups.foreground,
    );
  });
}

/** All that stands in the way. */
export const findingsAboutNap = (napper: Napper): Finding[] => [
  ...findingsAboutRoles(napper),
  ...findingsAboutCaller(napper),
  ...findingsAboutLocks(napper),
  ...findingsAboutTerminals(napper),
];

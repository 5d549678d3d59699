/**
 * Which programs of a desktop belong together as one application, of those that Torpor did not start: what the desktop has
 * started in a unit of its own; otherwise the topmost process with a display, below the session's own programs and below
 * shells, with what it has started.
 */
import { readdirSync } from 'node:fs';
import { textOf } from '../inspect/kernel-files.ts';
import { readProcessLine } from '../inspect/proc.ts';
import { isApplicationUnit } from './hold.ts';
import { findRole, shell } from './refusals.ts';

export interface ProcessFacts {
  pid: number;
  ppid: number;
  uid: number;
  name: string;
  hasDisplay: boolean;
  /** The unit that a desktop has put it into. */
  unit: string | undefined;
}

export interface DesktopApplication {
  /** Its first process. */
  leader: number;
  uid: number;
  pids: number[];
}

/** Pure. */
export function groupApplications(processes: readonly ProcessFacts[]): DesktopApplication[] {
  const byPid = new Map(processes.map((each) => [each.pid, each]));
  const isCandidate = ({ name, hasDisplay, unit }: ProcessFacts) =>
    findRole(name) === undefined && (hasDisplay || unit !== undefined);
  const leaderOf = (process: ProcessFacts): ProcessFacts => {
    const parent = byPid.get(process.ppid);
    if (parent === undefined || parent.uid !== process.uid || !isCandidate(parent)) return process;
    if (parent.unit !== process.unit) return process;
    // What somebody has started in a terminal is none of the terminal's.
    if (shell.test(parent.name) && !shell.test(process.name)) return process;
    return leaderOf(parent);
  };
  const groups = new Map<number, DesktopApplication>();
  for (const process of processes) {
    if (!isCandidate(process)) continue;
    const { pid: leader, uid } = leaderOf(process);
    const group = groups.get(leader) ?? { leader, uid, pids: [] };
    group.pids.push(process.pid);
    groups.set(leader, group);
  }
  // A shell without a terminal emulator of the desktop is nobody's application.
  return [...groups.values()].filter(({ leader }) => !shell.test(byPid.get(leader)?.name ?? ''));
}

/** @param uids of whom; undefined for all. @param cgroupOf where a process is. */
export function readProcesses(
  uid: number | undefined,
  cgroupOf: (pid: number) => string | undefined,
): ProcessFacts[] {
  return readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    const line = Number.isInteger(pid) ? readProcessLine(pid) : undefined;
    if (line === undefined || line.kernelThread || line.state === 'Z') return [];
    const owner = Number(/^Uid:\s+(\d+)/m.exec(textOf(`/proc/${pid}/status`) ?? '')?.[1] ?? -1);
    if (uid !== undefined && owner !== uid) return [];
    const environment = textOf(`/proc/${pid}/environ`) ?? '';
    const folder = cgroupOf(pid);
    return [
      {
        pid,
        ppid: line.ppid,
        uid: owner,
        name: line.name,
        hasDisplay: /(?:^|\0)(?:DISPLAY|WAYLAND_DISPLAY)=[^\0]/.test(environment),
        unit: folder !== undefined && isApplicationUnit(folder) ? folder : undefined,
      },
    ];
  });
}

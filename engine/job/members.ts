/** The members of a set before anything is touched: workloads, and process trees that are about to become jobs. Pure. */
import { TorporError } from '../../api/errors.ts';
import type { WorkloadRecord } from '../workload/record.ts';

export interface Member {
  /** The first process of a tree that is no workload yet is known by its pid. */
  meant: WorkloadRecord | number;
  /** All its processes, as the host counts. */
  pids: readonly number[];
}

export const nameOfMember = (meant: Member['meant']) =>
  typeof meant === 'number' ? `process ${meant}` : meant.name;

/** What a member may be tied to, because it is suspended at the same instant: names by pids. */
export function companionsOf(member: Member, all: readonly Member[]): Map<number, string> {
  const others = all.filter((other) => other !== member);
  return new Map(
    others.flatMap(({ meant, pids }) => pids.map((pid): [number, string] => [pid, nameOfMember(meant)])),
  );
}

/** @throws TorporError `blocked` where a process would be suspended twice. */
export function refuseOverlap(members: readonly Member[]): void {
  const owners = new Map<number, Member>();
  for (const member of members) {
    for (const pid of member.pids) {
      const other = owners.get(pid);
      owners.set(pid, member);
      if (other === undefined) continue;
      const [inner, outer] = member.pids.length < other.pids.length ? [member, other] : [other, member];
      throw new TorporError(
        'blocked',
        `Process ${pid} belongs to ${nameOfMember(inner.meant)} and to ${nameOfMember(outer.meant)}, which it runs below. Nothing was touched.`,
        `Leave ${nameOfMember(inner.meant)} out: it is suspended with ${nameOfMember(outer.meant)}.`,
      );
    }
  }
}

/** What a rule about one kind of tie is, and the words that all of them use. */
import type { Finding } from '../../api/types.ts';
import type { Descriptor, Facts, ProcessFacts } from './facts.ts';

/** From the facts about a tree to what they mean for a suspend. Pure. */
export type Rule = (facts: Facts) => Finding[];

/** `gimp (pid 12)`. */
export const named = (process: { name: string; pid: number }) => `${process.name} (pid ${process.pid})`;

/** A process by its pid alone, inside or outside. */
export function namedPid(facts: Facts, pid: number): string {
  const inside = facts.processes.find((process) => process.pid === pid);
  return named({ pid, name: inside?.name ?? facts.names.get(pid) ?? 'a process that has ended' });
}

/** Every open descriptor of the tree with the process that has it. */
export function descriptorsOf(facts: Facts): { process: ProcessFacts; descriptor: Descriptor }[] {
  return facts.processes.flatMap((process) =>
    process.descriptors.map((descriptor) => ({ process, descriptor })),
  );
}

/** Who outside has this end, unless the tree cannot be suspended for that process anyway. */
export function ownerOutside(facts: Facts, key: string) {
  const owner = facts.outsiders.get(key);
  return facts.strangers.some(({ pid }) => pid === owner?.pid) ? 'stranger' : owner;
}

/** The next step for what is over in a moment; the inspection itself looks twice before it says so. */
export const soon = 'Try again in a moment.';

const listed = 5;

/** `a, b and 3 more`: a browser has hundreds of some things. */
export function list(items: readonly string[]): string {
  const rest = items.length - listed;
  return rest > 0 ? `${items.slice(0, listed).join(', ')} and ${rest} more` : items.join(', ');
}

export const mebibytes = (bytes: number) => `${Math.ceil(bytes / 1024 ** 2)} MiB`;
/** A sentence without what {@link mebibytes} has written into it. */
export const withoutAmounts = (words: string) => words.replaceAll(/\d+ MiB/g, '');
export const size = (bytes: number) => (bytes < 1024 ** 2 ? `${bytes} bytes` : mebibytes(bytes));

/** One finding where many would say the same of one process. */
export function oncePerProcess(
  items: readonly { process: ProcessFacts; what: string }[],
  toFinding: (process: ProcessFacts, whats: string[]) => Finding,
): Finding[] {
  const byProcess = new Map<ProcessFacts, Set<string>>();
  for (const { process, what } of items) {
    byProcess.set(process, (byProcess.get(process) ?? new Set()).add(what));
  }
  return [...byProcess].map(([process, whats]) => toFinding(process, [...whats]));
}

/** What a rule about one kind of tie is, and the words that all of them use. */
import type { Finding } from '../../api/types.ts';
import type { Descriptor, Facts, ProcessFacts } from './facts.ts';

/** From the facts about a tree to what they mean for a suspend. Pure. */
export type Rule = (facts: Facts) => Finding[];

/** `gimp (pid 12)`. */
export const named = (process: { name: string; pid: number }) => `${process.name} (pid ${process.pid})`;

/** Every open descriptor of the tree with the process that has it. */
export function descriptorsOf(facts: Facts): { process: ProcessFacts; descriptor: Descriptor }[] {
  return facts.processes.flatMap((process) =>
    process.descriptors.map((descriptor) => ({ process, descriptor })),
  );
}

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

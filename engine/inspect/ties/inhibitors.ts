/** Inhibitors of the log-in manager, each of which is a named pipe to it. */
import type { Finding } from '../../../api/types.ts';
import { inWords, isInhibitor } from '../../inhibitors/inhibitors.ts';
import type { Descriptor, Facts, ProcessFacts } from '../facts.ts';
import { descriptorsOf, named, type Rule } from '../rule.ts';

/** One that has been given up has no name any more, and is a pipe as any other. */
export const holdsInhibitor = (facts: Facts, { kind, target }: Descriptor) =>
  !facts.isCapsule && kind === 'fifo' && isInhibitor(target);

export const inhibitors: Rule = (facts) =>
  descriptorsOf(facts)
    .filter(({ descriptor }) => holdsInhibitor(facts, descriptor))
    .map(({ process, descriptor }) => finding(facts, process, descriptor));

function finding(facts: Facts, process: ProcessFacts, { target }: Descriptor): Finding {
  const inhibitor = facts.inhibitors?.get(target);
  const common = { tie: 'inhibitor', pid: process.pid };
  if (inhibitor === undefined) {
    return {
      ...{ ...common, verdict: 'blocking', by: '' },
      what: `${named(process)} keeps the machine from sleeping or the like (${target}), and the log-in manager does not say from what.`,
      hint: `Wait until ${process.name} has done what that is for, or end it. Started within \`torpor run\` it can be suspended.`,
    };
  }
  return {
    ...{ ...common, verdict: 'handled', by: 'engine' },
    what: `${named(process)} keeps the machine from ${inWords(inhibitor)}.`,
    hint: 'While it is suspended it does not; the resume asks the log-in manager for that again.',
  };
}

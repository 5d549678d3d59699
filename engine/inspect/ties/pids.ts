/** Process numbers: in a pid namespace of its own a tree gets them back, otherwise others may have them by then. */
import type { Finding } from '../../../api/types.ts';
import { list, type Rule } from '../rule.ts';

export const pids: Rule = (facts): Finding[] => {
  if (facts.isCapsule || facts.hasOwnPids) return [];
  const numbers = facts.processes.map(({ pid }) => `${pid}`);
  return [
    {
      tie: 'pid',
      verdict: 'handled',
      by: 'engine',
      what: `Its process ${numbers.length === 1 ? 'number is' : 'numbers are'} ${list(numbers)}, which others may have at the resume.`,
      hint: 'Then it gets a pid namespace of its own, in which the numbers are free.',
    },
  ];
};

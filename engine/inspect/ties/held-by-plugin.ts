/** What a plugin has the other end of. It is believed that it lets go of that; a suspend looks whether it has. */
import type { Finding } from '../../../api/types.ts';
import type { ProcessFacts } from '../facts.ts';

const hint = 'That lets go of it for the suspend and connects again after the resume.';

/** @param what a sentence. */
export function heldByPlugin(
  tie: 'unix-socket' | 'pipe',
  { pid }: ProcessFacts,
  plugin: string,
  what: string,
): Finding {
  return { tie, verdict: 'handled', by: plugin, pid, what, hint };
}

/** Whether it is one of those above, and not what a plugin says of itself. */
export const isHeldByPlugin = (finding: Finding) => finding.pid !== undefined && finding.hint === hint;

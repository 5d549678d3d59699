/** Memory of a special kind, and whether there is enough of it to come back to. */
import type { Finding } from '../../../api/types.ts';
import type { Facts } from '../facts.ts';
import { mebibytes, named, type Rule } from '../rule.ts';
import { bytesToSave } from './space.ts';

export const memory: Rule = (facts) => [needed(facts), ...locked(facts), ...huge(facts), ...secret(facts)];

/** What the tree has itself is free once it is suspended. */
function needed(facts: Facts): Finding {
  const bytes = bytesToSave(facts);
  const own = facts.processes.reduce((sum, process) => sum + process.memoryBytes, 0);
  const { available, total } = facts.memory;
  const what = `Its resume needs up to ${mebibytes(bytes)} of memory; ${mebibytes(Math.min(available + own, total))} would be free now.`;
  if (bytes <= available + own) return { tie: 'memory', verdict: 'handled', by: 'engine', what, hint: '' };
  return {
    tie: 'memory',
    verdict: 'degraded',
    by: 'criu',
    what,
    hint: 'Close something else before the resume, or add swap.',
  };
}

const locked: Rule = (facts) =>
  facts.processes
    .filter(({ lockedBytes }) => lockedBytes > 0)
    .map(
      (process): Finding => ({
        tie: 'locked-memory',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} keeps ${mebibytes(process.lockedBytes)} from being swapped out; they are locked again after the resume.`,
        hint: 'Secrets in them are in the snapshot, which root alone can read.',
      }),
    );

const huge: Rule = (facts) =>
  facts.processes
    .filter(({ hugeBytes }) => hugeBytes > 0)
    .map(
      (process): Finding => ({
        tie: 'huge-pages',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} has ${mebibytes(process.hugeBytes)} in huge pages; it gets huge pages again.`,
        hint: 'As many must be in reserve at the resume (`sysctl vm.nr_hugepages`).',
      }),
    );

const secret: Rule = (facts) =>
  facts.processes
    .filter(
      ({ mappings, descriptors }) =>
        mappings.some(({ kind }) => kind === 'secret') ||
        descriptors.some((each) => each.kind === 'kernel-object' && each.type === 'secretmem'),
    )
    .map(
      (process): Finding => ({
        tie: 'secret-memory',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has memory that not even the kernel may read (memfd_secret), which cannot be saved.`,
        hint: 'End what it keeps secrets for, and try again.',
      }),
    );

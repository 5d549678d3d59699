/** Descriptors of things that live in the kernel: CRIU saves the common ones; of the others it knows nothing. */
import type { Finding } from '../../../api/types.ts';
import { descriptorsOf, named, oncePerProcess, type Rule } from '../rule.ts';

const saved = new Set(['eventfd', 'eventpoll', 'timerfd', 'signalfd', 'inotify', 'fanotify', 'pidfd']);
const words: Readonly<Record<string, string>> = {
  io_uring: 'io_uring, a queue of disk and network work in the kernel',
  'bpf-prog': 'a program in the kernel (bpf)',
  'bpf-map': 'a table in the kernel (bpf)',
  perf_event: 'performance counters of the kernel',
  userfaultfd: 'a userfaultfd',
  'kvm-vm': 'a virtual machine (kvm)',
  'kvm-vcpu': 'a virtual machine (kvm)',
};

export const kernelObjects: Rule = (facts) => {
  const tied = descriptorsOf(facts).flatMap(({ process, descriptor }) => {
    const kind = /^anon_inode:\[?([^\]]+)\]?$/.exec(descriptor.target)?.[1]?.split(':')[0];
    if (kind === undefined || saved.has(kind)) return [];
    return [{ process, what: words[kind] ?? `a kernel object of the kind ${kind}` }];
  });
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'kernel-object',
      verdict: 'blocking',
      by: '',
      what: `${named(process)} has ${whats.join(' and ')}, which cannot be saved.`,
      hint: 'Start the application with `torpor run`: in a capsule it does without where it can.',
    }),
  );
};

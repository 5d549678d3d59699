/** Devices: what drives hardware or the kernel has a state that no checkpoint holds. */
import type { Finding } from '../../../api/types.ts';
import { descriptorsOf, named, oncePerProcess, type Rule } from '../rule.ts';

const harmless = /^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/.*|shm\/.*)( \(deleted\))?$/;

export const devices: Rule = (facts) => {
  const open = descriptorsOf(facts).map(({ process, descriptor }) => ({ process, what: descriptor.target }));
  const mapped = facts.processes.flatMap((process) =>
    process.mappedDevices.map((what) => ({ process, what })),
  );
  const tied = [...open, ...mapped].filter(({ what }) => what.startsWith('/dev/') && !harmless.test(what));
  return oncePerProcess(
    tied,
    (process, whats): Finding => ({
      tie: 'device',
      verdict: 'blocking',
      by: '',
      what: `${named(process)} uses ${whats.join(', ')}, whose state lies in the hardware or the kernel.`,
      hint: 'Stop what it uses the device for and try again.',
    }),
  );
};

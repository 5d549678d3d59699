/** Devices: what drives hardware or the kernel has a state that no checkpoint holds. */
import type { Finding } from '../../../api/types.ts';
import { descriptorsOf, list, named, oncePerProcess, type Rule } from '../rule.ts';

/** By the kernel's devices.txt: null, zero, full, random, urandom, and the controlling terminal, by whatever name. */
const harmless = new Set(['1:3', '1:5', '1:7', '1:8', '1:9', '5:0']);

/** Whether it has no state of which anybody would miss anything. */
export const isHarmless = (device: { type: string; major: number; minor: number }) =>
  device.type !== 'block' && harmless.has(`${device.major}:${device.minor}`);

const isTie = (device: { type: string; major: number; minor: number }) => !isHarmless(device);

export const devices: Rule = (facts) => {
  const open = descriptorsOf(facts)
    .filter(({ descriptor }) => descriptor.kind === 'device' && isTie(descriptor))
    .map(({ process, descriptor }) => ({ process, what: descriptor.target }));
  const mapped = facts.processes.flatMap((process) =>
    process.mappings
      .filter((mapping) => mapping.kind === 'device')
      .filter(isTie)
      .map(({ path }) => ({ process, what: path })),
  );
  return oncePerProcess(
    [...open, ...mapped],
    (process, whats): Finding => ({
      tie: 'device',
      verdict: 'blocking',
      by: '',
      pid: process.pid,
      what: `${named(process)} uses ${list(whats)}, whose state lies in the hardware or the kernel.`,
      hint: 'Stop what it uses the device for and try again.',
    }),
  );
};

/** What a nap would gain, and what it has gained. Pure; all in bytes. */
import type { MachineMemory, ProcessMemory } from './memory.ts';

/** Of swap, so that what others need finds room: a tenth, and no more than this. */
const mostKept = 512 * 1024 ** 2;
/** Where zram has nothing yet to tell by. Most memory of desktop applications does better (docs/decisions/0034-nap.md). */
export const usualZramRatio = 2.5;

/** How much of swap a nap leaves free. */
export const swapToKeep = ({ swapTotal }: Pick<MachineMemory, 'swapTotal'>): number =>
  Math.min(mostKept, Math.ceil(swapTotal / 10));

export interface Expectation {
  /** Memory that would be free; file pages among it come back from disk. */
  bytes: number;
  /** Of that, of files. */
  fileBytes: number;
  /** What would go to swap. */
  swapBytes: number;
  /** What finds no room in swap, and stays. */
  staysBytes: number;
  /** Of zram, by which that was reckoned; undefined where no swap is zram. */
  zramRatio: number | undefined;
}

/** What writing back the memory of some processes would gain. */
export function expectedGain(memory: ProcessMemory, machine: MachineMemory): Expectation {
  const wanting = memory.anonymous + memory.shared;
  const room = Math.max(0, machine.swapFree - swapToKeep(machine));
  const swapBytes = Math.min(wanting, room);
  const hasZram = machine.zramTotal > 0;
  const zramRatio = hasZram ? (machine.zramRatio ?? usualZramRatio) : undefined;
  // What is in zram is in memory still, only smaller. Swap is filled by priority, and zram has the first.
  const inZram = Math.min(swapBytes, machine.zramTotal);
  const taken = zramRatio === undefined ? 0 : inZram / zramRatio;
  return {
    bytes: Math.round(memory.file + swapBytes - taken),
    fileBytes: memory.file,
    swapBytes,
    staysBytes: wanting - swapBytes,
    zramRatio,
  };
}

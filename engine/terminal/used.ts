/** When somebody last typed in the terminal of a process tree. */
import { stat } from 'node:fs/promises';

/** Major numbers of the other side of pseudoterminals (kernel: Documentation/admin-guide/devices.txt). */
const firstTerminal = 136;
const lastTerminal = 143;

/**
 * The kernel notes when a terminal was read from last, to eight seconds.
 * @returns undefined where none of the processes has one for its input.
 */
export async function terminalUsedAt(pids: readonly number[]): Promise<Date | undefined> {
  const inputs = await Promise.all(
    pids.map((pid) => stat(`/proc/${pid}/fd/0`, { bigint: true }).catch(() => undefined)),
  );
  const times = inputs.flatMap((input) => {
    if (!input?.isCharacterDevice()) return [];
    const major = Number((input.rdev >> 8n) & 0xfffn);
    return major >= firstTerminal && major <= lastTerminal ? Number(input.atimeMs) : [];
  });
  return times.length === 0 ? undefined : new Date(Math.max(...times));
}

/** Memory that applications have marked free (MADV_FREE) and that the kernel has not taken yet: it need not be saved. */
import { z } from 'zod';
import { runCommand } from '../command.ts';
import type { Logger } from '../log.ts';

const answerSchema = z.object({ bytes: z.number().int().nonnegative() });

/**
 * Has the kernel take it now; what was written again since stays. The application may run meanwhile.
 * @param program torpor-freed
 * @returns bytes. Never throws: what the kernel does not take is saved.
 */
export async function takeFreed(program: string, pids: readonly number[], log: Logger): Promise<number> {
  try {
    const { status, stdout, stderr } = await runCommand(program, pids.map(String));
    if (status !== 0) throw new Error(stderr.trim() || `status ${status}`);
    return answerSchema.parse(JSON.parse(stdout)).bytes;
  } catch (error) {
    log.warn({ err: error }, 'memory that is marked free is saved, too');
    return 0;
  }
}

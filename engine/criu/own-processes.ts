/** CRIU's own processes among those of a workload: to restore it, CRIU is in the cgroup in which they are to be born. */
import { stat } from 'node:fs/promises';

/** @param pids as the host counts. @returns those that run another program than this CRIU; what has ended is left out. */
export async function withoutCriu(pids: readonly number[], criu: string): Promise<number[]> {
  const program = await stat(criu);
  const isOther = await Promise.all(
    pids.map((pid) =>
      // By the file, and not its path: a restoring CRIU has another root.
      stat(`/proc/${pid}/exe`).then(
        ({ dev, ino }) => dev !== program.dev || ino !== program.ino,
        () => false,
      ),
    ),
  );
  return pids.filter((_, index) => isOther[index]);
}

/** Whether memory of a process waits to be fetched, as the kernel sees it. */
import { readFile } from 'node:fs/promises';
import { TorporError } from '../../api/errors.ts';

/** The flag of a mapping whose missing pages somebody else gives (proc(5), VmFlags: userfault missing). */
const givenByOthers = /^VmFlags:.*\bum\b/m;

/**
 * For a workload without a pager: whatever CRIU does not find in memory it takes for zeros.
 * @throws TorporError `failed` where a page may still be missing.
 */
export async function refuseMissingMemory(name: string, pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    // One that has ended meanwhile has no memory.
    const mappings = await readFile(`/proc/${pid}/smaps`, 'utf8').catch(() => '');
    if (!givenByOthers.test(mappings)) continue;
    throw new TorporError(
      'failed',
      `Memory of ${name} (pid ${pid}) has not been fetched yet since its last resume, and what fetches it does not answer.`,
      'Its last snapshot is whole: end it and resume that one, or try again in a while.',
    );
  }
}

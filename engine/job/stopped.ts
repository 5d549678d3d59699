/**
 * A job that is stopped, as by Ctrl+Z, goes on with its resume: the shell that could continue it is not there any more.
 * CRIU would leave it stopped, upon which the kernel ends it, because at the end of CRIU nobody is left who could
 * continue it (SIGHUP to a process group that is orphaned, exit(2)). So it is restored as one that runs.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rewriteImage } from '../../proto/images.ts';
import { delimitedField, encode, message, rawFields, required } from '../../proto/wire.ts';
import type { Images } from '../criu/images.ts';

const taskOfCore = 3;
const stateOfTask = 1;
const running = encode(message('task_core_entry', { state: required(stateOfTask, 'uint32') }), { state: 1 });

/** A core image with its process running, every other byte as it was. */
function asRunning(core: Buffer): Buffer {
  return rewriteImage('core', core, (entry) =>
    Buffer.concat(
      Array.from(rawFields(entry, 'core_entry'), ({ number, content, whole }) =>
        number === taskOfCore ? delimitedField(taskOfCore, taskAsRunning(content)) : whole,
      ),
    ),
  );
}

function taskAsRunning(task: Buffer): Buffer {
  return Buffer.concat(
    Array.from(rawFields(task, 'task_core_entry'), ({ number, whole }) =>
      number === stateOfTask ? running : whole,
    ),
  );
}

/** The core images of the process group that a job's first process is in, as far as it is stopped, continued; by name. */
export async function continued({ processes }: Images, imagesDir: string): Promise<Map<string, Buffer>> {
  const group = processes[0]?.pgid;
  const stopped = processes.filter((each) => each.kind === 'alive' && each.stopped && each.pgid === group);
  const names = stopped.map(({ pid }) => `core-${pid}.img`);
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, asRunning(await readFile(join(imagesDir, name)))] as const),
    ),
  );
}

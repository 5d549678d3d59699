/** A limit of memory for some programs, as the kernel keeps it: a memory cgroup, of version 1 or 2. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const version1 = '/sys/fs/cgroup/memory';
const version2 = '/sys/fs/cgroup';

const hasVersion1 = existsSync(join(version1, 'memory.limit_in_bytes'));
const controllers = existsSync(join(version2, 'cgroup.controllers'))
  ? readFileSync(join(version2, 'cgroup.controllers'), 'utf8').split(/\s+/)
  : [];

/** Why there can be no such limit here; undefined where there can. */
export const noMemoryLimit =
  hasVersion1 || controllers.includes('memory') ? undefined : 'this kernel has no memory cgroups here';

export interface MemoryLimit extends Disposable {
  /** What a process writes its pid to, to be among those for whom it is. */
  procs: string;
  /** How often somebody was killed for it. */
  kills: () => number;
}

export function limitMemory(name: string, mebibytes: number): MemoryLimit {
  const folder = join(hasVersion1 ? version1 : version2, name);
  if (!hasVersion1) writeFileSync(join(version2, 'cgroup.subtree_control'), '+memory');
  mkdirSync(folder);
  writeFileSync(
    join(folder, hasVersion1 ? 'memory.limit_in_bytes' : 'memory.max'),
    String(mebibytes * 1024 ** 2),
  );
  const events = join(folder, hasVersion1 ? 'memory.oom_control' : 'memory.events');
  return {
    procs: join(folder, 'cgroup.procs'),
    kills: () => Number(/^oom_kill (\d+)$/m.exec(readFileSync(events, 'utf8'))?.[1] ?? 0),
    [Symbol.dispose]: () => rmdirSync(folder),
  };
}

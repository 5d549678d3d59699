/** What a process has in its memory that is more than memory or a file that is there. */
import type { Mapping } from './facts.ts';
import { deviceOf, inodeOf, statOf } from './kernel-files.ts';

/** Memory that the kernel shows as a file with a name but without one that was ever there. */
const nameless = /^\/(dev\/zero|SYSV[0-9a-f]+|memfd:.*|anon_hugepage|dmabuf:.*) \(deleted\)$/;

/** A path that may be a device, or that seems to be gone. */
const mapsLine =
  /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(\/dev\/.*|\/.* \(deleted\)|\/secretmem.*|anon_inode:.*)$/gm;

/** @param maps the process's /proc/PID/maps. */
export function readMappings(pid: number, maps: string): Mapping[] {
  const found: Mapping[] = [];
  const seen = new Set<string>();
  for (const [, start = '', end = '', access = '', major, minor, inode, path = ''] of maps.matchAll(
    mapsLine,
  )) {
    const key = `${Number.parseInt(major ?? '', 16)}:${Number.parseInt(minor ?? '', 16)}:${inode}`;
    // Files that had the same name one after the other are several.
    if (seen.has(`${key} ${path}`)) continue;
    seen.add(`${key} ${path}`);
    if (path === '/[aio] (deleted)') found.push({ kind: 'aio' });
    else if (path.startsWith('/secretmem')) found.push({ kind: 'secret' });
    else if (!nameless.test(path)) found.push(...lookAtMapping(pid, `${start}-${end}`, path, key));
    else if (access.endsWith('s')) found.push({ kind: 'shared', what: sharedKind(path), key });
  }
  return found;
}

const sharedKind = (path: string) =>
  path.startsWith('/SYSV') ? 'system-v' : path.startsWith('/memfd:') ? 'memory-file' : 'anonymous';

function lookAtMapping(pid: number, range: string, path: string, key: string): Mapping[] {
  const stat = statOf(`/proc/${pid}/map_files/${range.replace(/\b0+(?=[0-9a-f])/g, '')}`);
  if (stat === undefined) return [];
  const device = deviceOf(stat);
  if (device !== undefined) return [{ kind: 'device', path, ...device }];
  if (!stat.isFile() || stat.nlink > 0n) return [];
  const name = path.replace(/ \(deleted\)$/, '');
  const replaced = statOf(`/proc/${pid}/root${name}`)?.isFile() ?? false;
  return [{ kind: 'deleted', path: name, inode: inodeOf(stat), key, replaced }];
}

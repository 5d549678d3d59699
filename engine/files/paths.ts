/** Paths as the kernel has them: bytes. Records are JSON, so a path that is not UTF-8 has its bytes beside it. */
import { readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Where the paths of a capsule lie on the host. */
export interface CapsuleView {
  /** The host's folder that is the capsule's root. */
  root: string;
  /** The host's folder that the capsule has at /run/torpor; a job has none. */
  runFolder?: string;
}

/** A path in a record: text for people, and its bytes in base64 where they are not UTF-8. */
export interface RecordedPath {
  path: string;
  bytes?: string | undefined;
}

/** Where the capsule sees its run folder, and therein the copies of {@link keepVolatile}. */
export const runMount = '/run/torpor';
export const keptFolder = `${runMount}/kept`;

const keptFile = /\/kept-files\/([0-9a-f]{64})$/;

/** The hash by which a kept file (kept-files.ts) is named that has been put in the place of another one; undefined for other paths. */
export const keptHash = (path: string): string | undefined => keptFile.exec(path)?.[1];

/** More than this the kernel does not follow either (path_resolution(7)). */
const maxLinks = 40;

export function recordPath(bytes: Buffer): RecordedPath {
  const path = bytes.toString('utf8');
  return Buffer.from(path).equals(bytes) ? { path } : { path, bytes: bytes.toString('base64') };
}

export function pathBytes(record: RecordedPath): Buffer {
  return record.bytes === undefined ? Buffer.from(record.path) : Buffer.from(record.bytes, 'base64');
}

/**
 * The host's path of a capsule's path. In a root other than the host's, links are followed as if it were the root, so
 * that they lead nowhere else. The last parts need not exist. @throws Error `ELOOP`
 */
export async function hostPath(view: CapsuleView, path: Buffer): Promise<Buffer> {
  const text = path.toString('latin1');
  if (view.runFolder !== undefined && text.startsWith(`${runMount}/`)) {
    return Buffer.concat([Buffer.from(view.runFolder), path.subarray(runMount.length)]);
  }
  if (view.root === '/') return path;
  const root = Buffer.from(view.root).toString('latin1');
  const resolved: string[] = [];
  const ahead = text.split('/');
  let links = 0;
  for (let part = ahead.shift(); part !== undefined; part = ahead.shift()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      resolved.pop();
      continue;
    }
    const target = await linkTarget(join(root, ...resolved, part));
    if (target === undefined) {
      resolved.push(part);
      continue;
    }
    links++;
    if (links > maxLinks) throw Object.assign(new Error(`too many links in ${text}`), { code: 'ELOOP' });
    if (target.startsWith('/')) resolved.length = 0;
    ahead.unshift(...target.split('/'));
  }
  return Buffer.from(join(root, ...resolved), 'latin1');
}

async function linkTarget(latin1Path: string): Promise<string | undefined> {
  try {
    return (await readlink(Buffer.from(latin1Path, 'latin1'), { encoding: 'buffer' })).toString('latin1');
  } catch {
    return undefined;
  }
}

/**
 * Pipes between members of a session that are resumed together. Each CRIU would make a pipe of its own; so one is made
 * here, with what waited in it, and each CRIU is given it in place of what it would make, and opens the ends it needs.
 */
import { closeSync, fchownSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding } from '../../api/types.ts';
import { makePipe } from '../../native/pipe.ts';
import { type PipeContents, readPipeContents } from '../../proto/images.ts';
import { type Manifest, specOf } from '../../proto/manifest.ts';
import type { InheritedFd } from '../criu/options.ts';

type Member = Pick<Manifest, 'id' | 'workload' | 'session' | 'sharedPipes'>;

/** The inodes of the pipes that a member has in common with others that are there, too. Pure. */
export function pipesTogether(member: Member, others: readonly Member[]): number[] {
  const { session, sharedPipes = [] } = member;
  const there = others
    .filter((other) => other.id !== member.id && session !== undefined && other.session?.id === session.id)
    .map(({ workload }) => workload);
  return sharedPipes
    .filter(({ workloads }) => workloads.some((each) => there.includes(each)))
    .map(({ inode }) => inode);
}

/** What a resume says of pipes to members of the session that are not resumed with it. Pure. */
export function pipesBroken(member: Member, others: readonly Member[]): Finding[] {
  const together = new Set(pipesTogether(member, others));
  const broken = (member.sharedPipes ?? []).filter(({ inode }) => !together.has(inode));
  const workloads = [...new Set(broken.flatMap((pipe) => pipe.workloads))];
  const nameOf = (workload: string) =>
    member.session?.members.find((each) => each.workload === workload)?.name ?? workload;
  return workloads.map((workload) => ({
    tie: 'pipe',
    verdict: 'degraded',
    by: 'criu',
    what: `It had a pipe to ${nameOf(workload)}, which was suspended at the same instant and is not resumed with it.`,
    hint: 'It finds the pipe closed. Resumed together they are connected again.',
  }));
}

const keyOf = ({ session }: Member, inode: number) => `${session?.id} ${inode}`;

/** Those of the members of one resume. */
export class SharedPipes implements Disposable {
  readonly #members: { manifest: Manifest; contents: readonly PipeContents[] }[] = [];
  /** The descriptor by which CRIU opens its ends. */
  readonly #made = new Map<string, number>();
  readonly #held: number[] = [];

  /** @param imagesDir CRIU's images, verified already. @throws WireError where one is damaged. */
  async add(manifest: Manifest, imagesDir: string): Promise<void> {
    const { sharedPipes = [] } = manifest;
    const image = sharedPipes.length === 0 ? undefined : await readIfThere(join(imagesDir, 'pipes-data.img'));
    this.#members.push({ manifest, contents: image === undefined ? [] : readPipeContents(image) });
  }

  /** Makes those between members that are all there by now. @throws SocketError */
  make(): void {
    const manifests = this.#members.map(({ manifest }) => manifest);
    for (const manifest of manifests) {
      for (const inode of pipesTogether(manifest, manifests)) {
        const key = keyOf(manifest, inode);
        if (this.#made.has(key)) continue;
        // Each that could read has saved it, at the same instant.
        const contents = this.#members
          .filter((member) => member.manifest.session?.id === manifest.session?.id)
          .flatMap((member) => member.contents)
          .find((each) => each.inode === inode);
        const { read, write } = makePipe(contents?.data ?? Buffer.alloc(0), contents?.capacity);
        this.#held.push(read, write);
        // Whose it is may open it anew, as by /dev/stdin.
        const { user } = specOf(manifest);
        fchownSync(read, user.uid, user.gid);
        this.#made.set(key, read);
      }
    }
  }

  /** For the CRIU of one member. */
  of(manifest: Manifest): InheritedFd[] {
    return (manifest.sharedPipes ?? []).flatMap(({ inode }) => {
      const fd = this.#made.get(keyOf(manifest, inode));
      return fd === undefined ? [] : [{ key: `pipe:[${inode}]`, fd }];
    });
  }

  [Symbol.dispose](): void {
    for (const descriptor of this.#held.splice(0)) closeSync(descriptor);
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  return await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

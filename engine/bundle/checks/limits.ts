/**
 * Limits of resources. CRIU sets those in the images as root, after it has raised some of its own, and may exceed what the user
 * could have. What a capsule gets on this machine is what it inherits of the engine, and the most that is taken.
 */
import { readFile } from 'node:fs/promises';
import { decode, encode, message, repeated, required } from '../../../proto/wire.ts';

export interface Limit {
  soft: bigint;
  hard: bigint;
}

const unlimited = 2n ** 64n - 1n;

const amountIn = (text: string) => (text === 'unlimited' ? unlimited : BigInt(text));

/** Of a process, by their numbers in setrlimit(2), in whose order the kernel writes them. */
export async function limitsHere(pid: number | 'self' = 'self'): Promise<Limit[]> {
  const [, ...lines] = (await readFile(`/proc/${pid}/limits`, 'utf8')).trimEnd().split('\n');
  return lines.map((line) => {
    const [, soft = line, hard = line] = /^.{26}(\S+) +(\S+)/.exec(line) ?? [];
    return { soft: amountIn(soft), hard: amountIn(hard) };
  });
}

/** Of a process, in the order of setrlimit(2): task_rlimits_entry of CRIU's images/core.proto. */
export const limitsEntry = message('task_rlimits_entry', {
  limits: repeated(1, message('rlimit_entry', { soft: required(1, 'uint64'), hard: required(2, 'uint64') })),
});

const least = (a: bigint, b: bigint) => (a < b ? a : b);

/** Each at most as high as here; one that is missing would be CRIU's own, which is higher. Pure. */
export function lowerLimits(entry: Buffer, here: readonly Limit[]): Buffer {
  const given = decode(limitsEntry, entry).limits;
  const limits = here.map((own, index) => {
    const asked = given[index] ?? own;
    const hard = least(asked.hard, own.hard);
    return { soft: least(asked.soft, hard), hard };
  });
  return encode(limitsEntry, { limits });
}

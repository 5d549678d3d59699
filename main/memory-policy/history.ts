/**
 * What the policy has done, or would have done, and what came of it: a file of lines of JSON in the user's state folder, which
 * is kept short.
 */
import { appendFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type PolicyEntry, policyEntrySchema } from '../ipc/policy-view.ts';

/** More than anybody looks through; it is cut to that when there are twice as many. */
const mostEntries = 500;

export class PolicyHistory {
  readonly #path: string;
  /** The oldest first. */
  #entries: PolicyEntry[];
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, entries: PolicyEntry[]) {
    this.#path = path;
    this.#entries = entries;
  }

  /** A line that cannot be read is left out. */
  static async open(path: string): Promise<PolicyHistory> {
    const text = await readFile(path, 'utf8').catch(() => '');
    return new PolicyHistory(path, parseEntries(text));
  }

  /** The oldest first. */
  all(): readonly PolicyEntry[] {
    return this.#entries;
  }

  /** A full disk must not keep anything from being done: what cannot be written is known until the app ends. */
  add(entry: PolicyEntry): void {
    this.#entries = [...this.#entries, entry];
    const isLong = this.#entries.length >= 2 * mostEntries;
    if (isLong) this.#entries = this.#entries.slice(-mostEntries);
    const entries = this.#entries;
    this.#writing = this.#writing
      .then(() => (isLong ? this.#rewrite(entries) : this.#append(entry)))
      .catch((error: Error) => console.error(`torpor: the history is not written: ${error.message}`));
  }

  async #append(entry: PolicyEntry): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true });
    await appendFile(this.#path, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
  }

  async #rewrite(entries: readonly PolicyEntry[]): Promise<void> {
    const beside = `${this.#path}.new`;
    await writeFile(beside, entries.map((each) => `${JSON.stringify(each)}\n`).join(''), { mode: 0o600 });
    await rename(beside, this.#path);
  }
}

/** Pure. */
export function parseEntries(text: string): PolicyEntry[] {
  return text.split('\n').flatMap((line) => {
    try {
      return policyEntrySchema.parse(JSON.parse(line));
    } catch {
      return [];
    }
  });
}

/**
 * Most that was free at once since a moment, of what was only written down: each is from its nap until it is used again.
 * Pure.
 */
export function mostAtOnce(
  entries: readonly PolicyEntry[],
  since: string,
): { gainBytes: number; at?: string; applications: number } {
  const aside = new Map<string, number>();
  const seen = new Set<string>();
  let most: { gainBytes: number; at?: string } = { gainBytes: 0 };
  for (const { at, what, really, key, application, gainBytes = 0 } of entries) {
    if (at < since || really || what === 'left') continue;
    if (what === 'woken') aside.delete(key);
    else {
      aside.set(key, gainBytes);
      seen.add(application);
    }
    const sum = [...aside.values()].reduce((total, each) => total + each, 0);
    if (sum > most.gainBytes) most = { gainBytes: sum, at };
  }
  return { ...most, applications: seen.size };
}

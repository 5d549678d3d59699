/**
 * The windows of the application in a capsule, as its window manager knows them. What asks is the host's own tool, as
 * the capsule's user and on its X server; while it asks, it has a connection there that CRIU could not save, so a
 * suspend waits until nobody does.
 */
import { encode } from 'fast-png';
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import { type CapsuleWindow, capsuleWindowSchema } from '../../api/types.ts';
import { runCommand } from '../command.ts';
import type { Installation } from '../installation.ts';
import type { CapsuleRecord, StatusOf } from '../workload/record.ts';

export type RunningRecord = CapsuleRecord & { status: StatusOf<'running'> };

/** A capsule that does not answer must not hold up its suspend for longer. */
const answerLimitMs = 4000;
/** As torpor-capsule says that there is no such window. */
const noSuchWindow = 3;
const titleLength = 300;

const iconSchema = z.object({
  width: z.number().int().min(1).max(256),
  height: z.number().int().min(1).max(256),
  /** `aarrggbb` a pixel. */
  pixels: z.string().regex(/^[0-9a-f]*$/),
});

/** Titles are whatever the application sets: here they become one line that can be shown. Pure. */
export function readableTitle(text: string): string {
  const line = text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
    .trim();
  const characters = [...line];
  return characters.length > titleLength ? `${characters.slice(0, titleLength - 1).join('')}…` : line;
}

export class CapsuleWindows {
  readonly #installation: Installation;
  readonly #asking = new Map<string, Set<Promise<unknown>>>();

  constructor(installation: Installation) {
    this.#installation = installation;
  }

  /** Those a user would call windows, the oldest first; no more than 256. */
  async list(record: RunningRecord): Promise<CapsuleWindow[]> {
    const lines = (await this.#ask(record, 'list')).split('\n').filter(Boolean);
    return lines.map((line) => {
      const window = capsuleWindowSchema.parse(JSON.parse(line));
      return { ...window, title: readableTitle(window.title), class: readableTitle(window.class) };
    });
  }

  /** @throws TorporError `not-found` where it is none of those that are listed. */
  async activate(record: RunningRecord, id: number): Promise<void> {
    await this.#ask(record, 'activate', id);
  }

  /** Asks all of them to close. Whether they do is up to the application. */
  async close(record: RunningRecord): Promise<void> {
    await this.#ask(record, 'close');
  }

  /**
   * A PNG file of the largest icon up to 256 pixels.
   * @throws TorporError `not-found` where there is no such window, or it has none.
   */
  async icon(record: RunningRecord, id: number): Promise<Uint8Array> {
    const parsed = iconSchema.safeParse(JSON.parse(await this.#ask(record, 'icon', id)));
    if (!parsed.success) {
      throw new TorporError('not-found', `Window ${id} of ${record.name} has no icon.`);
    }
    const { width, height, pixels } = parsed.data;
    const argb = Buffer.from(pixels, 'hex');
    const data = new Uint8Array(argb.length);
    for (let at = 0; at < argb.length; at += 4) {
      data.set(argb.subarray(at + 1, at + 4), at);
      data[at + 3] = argb[at] ?? 0;
    }
    return encode({ width, height, data, channels: 4 });
  }

  /** When somebody last typed or pointed at something in it; undefined where its X server does not say. */
  async lastUsedAt(record: RunningRecord): Promise<Date | undefined> {
    const answer = await this.#ask(record, 'idle').catch(() => '');
    return /^\d+\n$/.test(answer) ? new Date(Date.now() - Number(answer)) : undefined;
  }

  /** Waits until nobody asks about the windows of this workload. */
  async settled(id: string): Promise<void> {
    await Promise.allSettled(this.#asking.get(id) ?? []);
  }

  async #ask(record: RunningRecord, task: string, window?: number): Promise<string> {
    const asked = this.#run(record, task, window);
    const others = this.#asking.get(record.id) ?? new Set();
    this.#asking.set(record.id, others.add(asked));
    try {
      return await asked;
    } finally {
      others.delete(asked);
      if (others.size === 0) this.#asking.delete(record.id);
    }
  }

  async #run(record: RunningRecord, task: string, window: number | undefined): Promise<string> {
    const { user, display = 0 } = record.capsule;
    const { status, stdout, stderr } = await runCommand(
      this.#installation.capsuleTool,
      [
        ...['windows', String(record.status.init.pid)],
        ...['--uid', String(user.uid), '--gid', String(user.gid), '--groups', user.groups.join(',')],
        ...['--display', String(display)],
        ...['--', task, ...(window === undefined ? [] : [String(window)])],
      ],
      { timeoutMs: answerLimitMs, killSignal: 'SIGKILL' },
    );
    if (status === 0) return stdout;
    if (status === noSuchWindow) {
      throw new TorporError(
        'not-found',
        `${record.name} has no window ${window}.`,
        `See \`torpor windows ${record.name}\`; it may have been closed meanwhile.`,
      );
    }
    throw new TorporError(
      'failed',
      `The windows of ${record.name} cannot be seen: ${reasonIn(stderr)}.`,
      'Try again; where it does not answer at all, look at its screen (`torpor attach`).',
    );
  }
}

function reasonIn(stderr: string): string {
  try {
    return String((JSON.parse(stderr) as { error?: unknown }).error);
  } catch {
    return 'its X server did not answer in time';
  }
}

/**
 * The display that processes have their windows on, as a nap has to do with it: their user may be in one of them, a menu may
 * hold the pointer for itself, and a window manager asks windows whether they live. Asked as that user. Under Wayland nothing
 * of this can be asked.
 */
import { z } from 'zod';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import { runCommand } from '../command.ts';
import { textOf } from '../inspect/kernel-files.ts';

/** Of its owner. */
export const displaySchema = z.object({
  display: z.string(),
  authority: z.string().optional(),
  uid: z.number().int(),
  gid: z.number().int(),
});
export type Display = z.infer<typeof displaySchema>;

const lookSchema = z.object({
  windows: z.array(z.number().int()),
  /** The user is in one of them. */
  focused: z.boolean(),
  /** Somebody has taken the pointer for itself. */
  grabbed: z.boolean(),
});
export type Look = z.infer<typeof lookSchema>;

const noAnswer = 4;
/** The program itself gives up after two seconds for each answer. */
const limitMs = 10_000;

/** Where these processes have their windows; undefined where that is nowhere, or not under X11. */
export function displayOf(pids: readonly number[]): Display | undefined {
  for (const pid of pids) {
    const env = new Map(
      (textOf(`/proc/${pid}/environ`) ?? '').split('\0').map((line) => {
        const at = line.indexOf('=');
        return [line.slice(0, at), line.slice(at + 1)] as const;
      }),
    );
    const display = env.get('DISPLAY');
    const status = textOf(`/proc/${pid}/status`);
    if (!display || status === undefined) continue;
    const id = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
    const home = env.get('HOME');
    const authority = env.get('XAUTHORITY') || (home ? `${home}/.Xauthority` : undefined);
    return { display, ...(authority === undefined ? {} : { authority }), uid: id('Uid'), gid: id('Gid') };
  }
  return undefined;
}

export class DisplayDoesNotAnswer extends TorporError {
  constructor(display: string) {
    super('failed', `The display ${display} does not answer.`, 'Look whether the X server runs.');
  }
}

/** Asks the program that knows windows (native/desktop.c). */
export class Desktop {
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
  }

  async #ask({ display, authority, uid, gid }: Display, args: readonly string[]): Promise<string> {
    const as = ['--reuid', String(uid), '--regid', String(gid), '--clear-groups', '--'];
    const { status, stdout, stderr } = await runCommand('setpriv', [...as, this.#program, ...args], {
      env: { DISPLAY: display, ...(authority === undefined ? {} : { XAUTHORITY: authority }) },
      timeoutMs: limitMs,
    });
    if (status === noAnswer || status === -1) throw new DisplayDoesNotAnswer(display);
    if (status !== 0) throw new Error(`torpor-desktop ${args[0]}: ${stderr.trim()}`);
    return stdout;
  }

  /** @throws DisplayDoesNotAnswer */
  async look(display: Display, pids: readonly number[]): Promise<Look> {
    return lookSchema.parse(JSON.parse(await this.#ask(display, ['look', ...pids.map(String)])));
  }

  /** Has the window manager leave them alone. @returns what {@link restore} takes to undo it */
  async quiet(display: Display, pids: readonly number[]): Promise<string[]> {
    return (await this.#ask(display, ['quiet', ...pids.map(String)])).split('\n').filter(Boolean);
  }

  async restore(display: Display, changes: readonly string[]): Promise<void> {
    if (changes.length > 0) await this.#ask(display, ['restore', ...changes]);
  }
}

/** What of it keeps them from being napped. Pure. */
export function findingsAboutLook(name: string, { focused, grabbed }: Look): Finding[] {
  const blocking = { verdict: 'blocking', by: '' } as const;
  return [
    ...(focused
      ? [
          {
            ...blocking,
            tie: 'focus',
            what: `You are in a window of ${name}.`,
            hint: 'Go to another window first, or say that it may be: `--anyway`.',
          },
        ]
      : []),
    ...(grabbed
      ? [{ ...blocking, tie: 'grab', what: grabbedText, hint: 'Try again when it is closed.' }]
      : []),
  ];
}

export const grabbedText =
  'A menu is open, or something is being dragged: the whole display would wait for it.';

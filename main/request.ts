/** What a start of the app asks for: read from its command line, and handed over where the app runs already. */
import { isAbsolute } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { sentenceOf, TorporError } from '../api/errors.ts';
import { placeOf } from './ipc/address.ts';
import { placeSchema } from './ipc/view.ts';

export const requestSchema = z.object({
  /** Files, each by its whole path. */
  open: z.array(z.string().startsWith('/')).max(1000),
  /** What the window shows. */
  place: placeSchema,
  /** Opens no window. */
  tray: z.boolean(),
  /** Gives an address for a browser instead of a window. */
  browser: z.boolean(),
  /** Ends the app; applications run on. */
  quit: z.boolean(),
  /** `SSH_CONNECTION` of who asks: where they are logged in from, and to. */
  ssh: z.string().max(500).optional(),
});
export type Request = z.infer<typeof requestSchema>;

/** What the app answers: a sentence for the user, and what programs want to know. */
export const answerSchema = z.object({
  text: z.string(),
  shell: z.enum(['electron', 'chromium', 'browser', 'none']),
  address: z.string().optional(),
});
export type Answer = z.infer<typeof answerSchema>;

/** @throws TorporError `usage` that names what is not understood */
export function parseRequest(words: readonly string[], env = process.env): Request {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: {
        place: { type: 'string', default: 'home' },
        tray: { type: 'boolean', default: false },
        browser: { type: 'boolean', default: false },
        quit: { type: 'boolean', default: false },
      },
    });
    const relative = positionals.find((path) => !isAbsolute(path));
    if (relative !== undefined) throw new Error(`${relative} is not a whole path`);
    const place = placeOf(values.place);
    if (place === undefined) throw new Error(`there is no place ${values.place}`);
    const ssh = env.SSH_CONNECTION;
    return {
      open: positionals,
      place,
      tray: values.tray,
      browser: values.browser,
      quit: values.quit,
      ...(ssh ? { ssh } : {}),
    };
  } catch (error) {
    throw new TorporError('usage', `${sentenceOf(error)}.`, 'See `torpor ui --help`.');
  }
}

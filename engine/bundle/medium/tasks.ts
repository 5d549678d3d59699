/** What the program is asked for: lines of JSON on standard input, each checked before anything is done. */
import { z } from 'zod';
import { TorporError } from '../../../api/errors.ts';
import { kdfBounds, usualKdf } from './header.ts';

const text = z
  .string()
  .max(4095)
  .refine((value) => !value.includes('\0'), 'has a zero byte');
const path = text.regex(/^\//, 'is no absolute path');
const passphrase = z.string().min(1).max(1024);
const mode = z.int().min(0).max(0o777);
const owner = z.enum(['root', 'user']);
const list = z.int().min(0);
const kdf = z
  .strictObject({
    ops: z.int().min(kdfBounds.ops.least).max(kdfBounds.ops.most),
    memory: z.int().min(kdfBounds.memory.least).max(kdfBounds.memory.most),
  })
  .default(usualKdf);

/** What is to be written, and where. */
const request = z.object({
  path,
  form: z.enum(['file', 'folder', 'auto']),
  passphrases: z.array(passphrase).min(1),
  /** Whether files are to lie beside it, which needs a folder. */
  hasBeside: z.boolean().default(false),
});

const firstTask = z.discriminatedUnion('task', [
  request.extend({
    task: z.literal('write'),
    kdf,
    expectedBytes: z.int().min(0).default(0),
    /** Of what comes by the stream, before it is compressed: of so many it says how many have come. */
    sourceBytes: z.int().min(0).default(0),
  }),
  /** Whether it could be written; nothing is. */
  request.extend({ task: z.literal('try') }),
  z.object({
    task: z.literal('read'),
    path,
    by: z.union([
      z.strictObject({ passphrase }),
      z.strictObject({
        key: z
          .string()
          .regex(/^[0-9a-f]{64}$/)
          .transform((hex) => Buffer.from(hex, 'hex')),
      }),
    ]),
  }),
  z.object({
    task: z.literal('passphrases'),
    path,
    passphrase,
    add: z.array(passphrase).default([]),
    remove: z.array(passphrase).default([]),
    kdf,
  }),
]);

const commitTask = z.object({
  task: z.literal('commit'),
  contents: z.record(z.string(), z.unknown()),
  beside: z.array(z.object({ fd: z.int().min(5), name: z.string().regex(/^\w[\w.-]*$/), mode })).default([]),
});

const readTask = z.discriminatedUnion('task', [
  z.object({ task: z.literal('folder'), path: text, mode, owner }),
  z.object({ task: z.literal('link'), path: text, target: text, owner }),
  z.object({
    task: z.literal('file'),
    list,
    path: text,
    mode,
    owner,
    /** Nanoseconds since 1970, in decimal: a number is not exact enough. */
    mtimeNs: z
      .string()
      .regex(/^-?[0-9]{1,19}$/)
      .transform(BigInt)
      .refine((ns) => BigInt.asIntN(64, ns) === ns, 'is no number of 64 bits'),
  }),
  z.object({ task: z.literal('memory'), list }),
  z.object({ task: z.literal('chunkList'), list, path: text }),
  z.object({ task: z.literal('check') }),
  z.object({ task: z.literal('end') }),
]);

function parse<T>(schema: z.ZodType<T>, line: string): T {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    throw new TorporError('usage', 'torpor-bundle was given a line that is no JSON.');
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new TorporError(
    'usage',
    `torpor-bundle was given a task that it does not know: ${z.prettifyError(parsed.error).replaceAll('\n', ' ')}`,
  );
}

export type FirstTask = z.infer<typeof firstTask>;
export type ReadTask = z.infer<typeof readTask>;

export const parseFirst = (line: string): FirstTask => parse(firstTask, line);
export const parseCommit = (line: string): z.infer<typeof commitTask> => parse(commitTask, line);
export const parseRead = (line: string): ReadTask => parse(readTask, line);

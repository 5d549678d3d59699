/** What can go wrong with a bundle's medium, in sentences for people. */
import { TorporError } from '../../../api/errors.ts';

/** Something of a bundle is not what was written: damaged, cut short, or changed by somebody. */
export class DamageError extends Error {
  override readonly name = 'DamageError';
}

/** What the kernel has answered; undefined for errors of Node's own. */
export const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && /^E[A-Z0-9]+$/.test(String(error.code))
    ? String(error.code)
    : undefined;

/** What a medium answers that is worn, or not there any more; the last two of one that a program serves (FUSE). */
const mediumErrors = new Set([
  ...['EIO', 'ENODEV', 'ENXIO', 'ENOMEDIUM', 'ESTALE', 'EREMOTEIO', 'ESHUTDOWN'],
  ...['ENOTCONN', 'ECONNABORTED'],
]);

/** Whether the bundle was being read or written. */
export type Doing = 'read' | 'write';

/** The error for people that whatever was thrown comes to; a defect of the program stays what it is. */
export function explain(error: unknown, path: string, doing: Doing): unknown {
  if (error instanceof TorporError) return error;
  const trouble = (code: 'failed' | 'blocked' | 'not-permitted', sentence: string, hint: string) =>
    new TorporError(code, sentence, hint, {}, { cause: error });
  if (error instanceof DamageError)
    return trouble(
      'failed',
      `The bundle ${path} is damaged: ${error.message}. Nothing of it is used.`,
      doing === 'read'
        ? 'Use another copy of it, or export the session anew to another medium.'
        : 'Export to another medium: this one does not keep what is written to it.',
    );
  const code = errnoOf(error);
  if (code === undefined) return error;
  if (mediumErrors.has(code))
    return trouble(
      'failed',
      `The medium with ${path} cannot be ${doing === 'read' ? 'read' : 'written'}: it answers ${code}. It is worn, or it was pulled out.`,
      doing === 'read'
        ? 'Plug it in again and repeat this, or use another copy of the bundle.'
        : 'Plug it in again and repeat this, or use another medium. Of the bundle, the last complete generation counts.',
    );
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return trouble(
        'failed',
        `There is no room left for the bundle ${path}. What was there before is unchanged.`,
        'Free some room on that medium, or choose another one.',
      );
    case 'EROFS':
      return trouble(
        'failed',
        `The bundle ${path} cannot be written: its medium can only be read.`,
        'Take off its write protection, or choose another medium.',
      );
    case 'EACCES':
    case 'EPERM':
      return trouble(
        'not-permitted',
        `The bundle ${path} cannot be ${doing === 'read' ? 'read' : 'written'}: its permissions do not allow it.`,
        'Choose a place that is yours, or change the permissions there.',
      );
    case 'EFBIG':
      return tooBig(path);
    case 'ENOENT':
    case 'ENOTDIR':
      return trouble(
        'failed',
        `A part of the bundle ${path} is not there any more: the medium was pulled out, or somebody removed it.`,
        'Plug the medium in again and repeat this.',
      );
    default:
      return trouble(
        'failed',
        `The bundle ${path} cannot be ${doing === 'read' ? 'read' : 'written'}: ${code}.`,
        'See whether the medium works, or use another one.',
      );
  }
}

export const tooBig = (path: string): TorporError =>
  new TorporError(
    'failed',
    `The bundle ${path} would be longer than a file can be there (4 GiB). What was there before is unchanged.`,
    'Export to a folder instead: its parts are at most 1 GiB long.',
  );

/** Errors as the windows and the desktop show them. */
import { sentenceOf, TorporError } from '../api/errors.ts';
import type { Notice } from './ipc/view.ts';

export function noticeOf(error: unknown): Notice {
  return {
    level: 'error',
    message: sentenceOf(error),
    hint: error instanceof TorporError ? error.hint : '',
  };
}

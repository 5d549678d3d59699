/**
 * Errors for people. Every error that reaches a user, on whatever way (command line, bus, window), is a
 * {@link TorporError}: a machine code, one sentence that names the thing and the reason, and a hint that names
 * the next step. Anything else that is thrown is a defect of the program and is logged with its stack.
 */

export const errorCodes = ['failed', 'usage', 'blocked', 'not-found', 'not-permitted'] as const;
export type ErrorCode = (typeof errorCodes)[number];

/** Exit codes of the `torpor` command, by error code. 0 is success. */
export const exitCodes: Readonly<Record<ErrorCode, number>> = {
  failed: 1,
  usage: 2,
  blocked: 3,
  'not-found': 4,
  'not-permitted': 5,
};

export class TorporError extends Error {
  override readonly name = 'TorporError';
  readonly code: ErrorCode;
  /** What the user can do next; empty if nothing is to be done. */
  readonly hint: string;
  /** More for those who look closely: findings, the tail of CRIU's log, paths. Plain JSON. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: ErrorCode,
    sentence: string,
    hint = '',
    details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(sentence, options);
    this.code = code;
    this.hint = hint;
    this.details = details;
  }
}

/** The sentence for whatever was thrown: a TorporError's own, otherwise the error's message. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

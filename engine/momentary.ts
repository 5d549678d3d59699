/** What stands in the way of a suspend for a moment only: it is tried again while the application runs on. */
import { TorporError } from '../api/errors.ts';
import { CriuError } from './criu/criu-error.ts';

/** Refused for what the application happened to be at; the error of a caller for whom it did not pass in time. */
export class MomentaryError extends TorporError {
  /** @param sentence what it was at. */
  constructor(sentence: string) {
    super('blocked', sentence, 'Try again in a moment.');
  }
}

/** Whether a failed suspend may be possible a moment later. */
export const isMomentary = (error: unknown): boolean =>
  error instanceof MomentaryError || (error instanceof CriuError && error.isMomentary);

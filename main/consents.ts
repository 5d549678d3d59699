/** What the engine asks the user to agree to before it starts an application, as windows show it. */
import { z } from 'zod';
import { TorporError } from '../api/errors.ts';
import { consentSchema } from '../api/types.ts';
import type { ConsentView } from './ipc/view.ts';

const detailsSchema = z.object({ consents: z.array(consentSchema) });

/** None where the error is of another kind. */
export function consentsOf(error: unknown, language: 'en' | 'de'): ConsentView[] {
  const details = error instanceof TorporError ? detailsSchema.safeParse(error.details) : undefined;
  return details?.success ? details.data.consents.map(({ id, what }) => ({ id, what: what[language] })) : [];
}

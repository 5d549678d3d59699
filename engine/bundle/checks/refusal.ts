/** How a bundle is refused whose contents no ordinary program could have left. */
import { TorporError } from '../../../api/errors.ts';

/** @param what a sentence without its full stop, which names the process or file and the reason. */
export const refused = (what: string): TorporError =>
  new TorporError(
    'blocked',
    `The bundle is refused: ${what}. Nothing of it was started.`,
    'Import only what you trust; if you made it yourself, export it again.',
    { refused: what },
  );

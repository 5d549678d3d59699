/** What a session is called in a window: the one of the program's own name has it in the user's language. */
import { useCallback } from 'react';
import type { SessionView } from '../../main/ipc/view.ts';
import { useText } from '../texts/use-text.ts';

export function useSessionTitle(): (session: Pick<SessionView, 'name' | 'isLast'>) => string {
  const say = useText();
  return useCallback(({ name, isLast }) => (isLast ? say('sessions.last') : name), [say]);
}

/**
 * Saving and restoring sessions, wherever the user goes meanwhile: what is under way, how the last one ended, and the question
 * that a refusal asks.
 */
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from 'react';
import type { CallArguments } from '../../main/ipc/schema.ts';
import type { SessionRestored, SessionSaved, SessionView } from '../../main/ipc/view.ts';
import { useModel } from '../model.ts';
import { placeOf } from '../place.ts';
import { useText } from '../texts/use-text.ts';
import { RefusedDialog } from './refused.tsx';
import { useSessionTitle } from './title.ts';

export type SaveRequest = CallArguments<'session.save'>[0];

/** What is under way, with the ids of the workloads that it has. */
export interface Doing {
  kind: 'save' | 'restore';
  /** As the user sees it. */
  name: string;
  workloads: readonly string[];
}

export type SessionEnd = { name: string } & (
  | ({ kind: 'save' } & Omit<Extract<SessionSaved, { kind: 'saved' }>, 'kind'>)
  | ({ kind: 'restore' } & SessionRestored)
);

export type Refusal = Extract<SessionSaved, { kind: 'refused' }>;

interface SessionsDoing {
  doing: Doing | undefined;
  end: SessionEnd | undefined;
  save(request: SaveRequest): Promise<void>;
  restore(session: SessionView): Promise<void>;
  dismiss(): void;
}

const DoingContext = createContext<SessionsDoing | undefined>(undefined);

export function useSessionsDoing(): SessionsDoing {
  const value = useContext(DoingContext);
  if (value === undefined) throw new Error('there is no SessionsProvider above this component');
  return value;
}

export function SessionsProvider({ children }: { children: ReactNode }) {
  const model = useModel();
  const say = useText();
  const titleOf = useSessionTitle();
  const [doing, setDoing] = useState<Doing>();
  const [end, setEnd] = useState<SessionEnd>();
  const [refused, setRefused] = useState<{ request: SaveRequest; refusal: Refusal }>();

  const during = useCallback(
    async (what: Doing, work: () => Promise<void>) => {
      setDoing(what);
      setEnd(undefined);
      try {
        await work();
      } catch (error) {
        model.fail(error);
      }
      setDoing(undefined);
    },
    [model],
  );

  const ended = useCallback(
    (how: SessionEnd, message: string) => {
      setEnd(how);
      // Who is elsewhere is told of it there.
      if (placeOf(location.hash).kind !== 'sessions')
        model.notify({ level: how.left.length > 0 ? 'warning' : 'info', message, hint: '' });
    },
    [model],
  );

  const save = useCallback(
    (request: SaveRequest) =>
      during({ ...request, kind: 'save' }, async () => {
        const { name } = request;
        const saved = await model.bridge.call('session.save', request);
        if (saved.kind === 'saved')
          ended(
            { ...saved, kind: 'save', name },
            say('sessions.done.save', { name, count: saved.suspended }),
          );
        else if (saved.cancelled)
          model.notify({ level: 'info', message: say('sessions.cancelled.save'), hint: '' });
        else setRefused({ request, refusal: saved });
      }),
    [model, say, during, ended],
  );

  const restore = useCallback(
    (session: SessionView) => {
      const workloads = session.members
        .filter(({ state }) => state === 'ready')
        .map(({ workload }) => workload);
      const name = titleOf(session);
      return during({ kind: 'restore', name, workloads }, async () => {
        const restored = await model.bridge.call('session.restore', session.name);
        ended(
          { ...restored, kind: 'restore', name },
          say('sessions.done.restore', { name, count: restored.resumed }),
        );
      });
    },
    [model, say, titleOf, during, ended],
  );

  const dismiss = useCallback(() => setEnd(undefined), []);
  const value = useMemo(() => ({ doing, end, save, restore, dismiss }), [doing, end, save, restore, dismiss]);

  return (
    <DoingContext value={value}>
      {children}
      {refused !== undefined && (
        <RefusedDialog
          {...refused}
          onAgain={(request) => {
            setRefused(undefined);
            void save(request);
          }}
          onClose={() => setRefused(undefined)}
        />
      )}
    </DoingContext>
  );
}

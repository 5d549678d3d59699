/**
 * Suspending, with a look at what stands in the way first: nothing does, and it begins; something will be different
 * afterwards, and the user is asked; something blocks it, and a dialog says what can be done about it.
 */
import { createContext, type ReactNode, useCallback, useContext, useMemo, useRef, useState } from 'react';
import type { FindingView, WorkloadView } from '../../main/ipc/view.ts';
import { type Model, useModel } from '../model.ts';
import { useFigures, useText } from '../texts/use-text.ts';
import { FindingsDialog } from './findings.tsx';

/** What is to be made: a suspend, or only a snapshot of what runs on. */
interface Request {
  workload: Pick<WorkloadView, 'id' | 'title'>;
  keepRunning: boolean;
}

interface Suspending {
  /** Ids of those that are being looked at just now. */
  inspecting: ReadonlySet<string>;
  start(request: Request): Promise<void>;
  cancel(workload: WorkloadView): Promise<void>;
  resume(workload: WorkloadView): Promise<void>;
}

const SuspendingContext = createContext<Suspending | undefined>(undefined);

export function useSuspending(): Suspending {
  const suspending = useContext(SuspendingContext);
  if (suspending === undefined) throw new Error('there is no SuspendingProvider above this component');
  return suspending;
}

export function SuspendingProvider({ children }: { children: ReactNode }) {
  const model = useModel();
  const say = useText();
  const figures = useFigures();
  const [inspecting, setInspecting] = useState<ReadonlySet<string>>(new Set());
  const [shown, setShown] = useState<{ request: Request; findings: FindingView[] }>();
  /** Whose operation was cancelled here: that it then fails is no news. */
  const cancelled = useRef(new Set<string>());

  const failed = useCallback(
    (id: string, error: unknown, said: string) => {
      if (cancelled.current.delete(id)) model.notify({ level: 'info', message: said, hint: '' });
      else model.fail(error);
    },
    [model],
  );

  const perform = useCallback(
    async ({ workload: { id, title }, keepRunning }: Request) => {
      cancelled.current.delete(id);
      try {
        const { freedBytes } = await model.bridge.call('workload.suspend', id, { keepRunning });
        const message = keepRunning
          ? say('said.snapshot', { title })
          : say('said.suspended', { title, bytes: figures.bytes(freedBytes) });
        model.notify({ level: 'info', message, hint: '' });
      } catch (error) {
        failed(id, error, say('said.cancelled.suspend', { title }));
      }
    },
    [model, say, figures, failed],
  );

  const start = useCallback(
    async (request: Request) => {
      const { id } = request.workload;
      setInspecting((ids) => new Set(ids).add(id));
      const findings = await inspect(model, id);
      setInspecting((ids) => new Set([...ids].filter((each) => each !== id)));
      if (findings === undefined) return;
      if (findings.some(({ verdict }) => verdict !== 'handled')) setShown({ request, findings });
      else await perform(request);
    },
    [model, perform],
  );

  const cancel = useCallback(
    async ({ id }: WorkloadView) => {
      cancelled.current.add(id);
      try {
        await model.bridge.call('workload.cancel', id);
      } catch (error) {
        cancelled.current.delete(id);
        model.fail(error);
      }
    },
    [model],
  );

  const resume = useCallback(
    async ({ id, title, kind }: WorkloadView) => {
      cancelled.current.delete(id);
      try {
        // Its window shows the last picture until the live one is there. In a plain browser it would replace this page.
        if (kind === 'capsule' && model.known.state?.shell.kind !== 'browser')
          await model.bridge.call('window.open', { kind: 'screen', workload: id });
        await model.bridge.call('workload.resume', id);
        model.notify({ level: 'info', message: say('said.resumed', { title }), hint: '' });
      } catch (error) {
        failed(id, error, say('said.cancelled.resume', { title }));
      }
    },
    [model, say, failed],
  );

  const value = useMemo(() => ({ inspecting, start, cancel, resume }), [inspecting, start, cancel, resume]);
  return (
    <SuspendingContext value={value}>
      {children}
      {shown && (
        <FindingsDialog
          title={shown.request.workload.title}
          workload={shown.request.workload.id}
          keepRunning={shown.request.keepRunning}
          findings={shown.findings}
          onFindings={(findings) => setShown({ ...shown, findings })}
          onSuspend={() => {
            setShown(undefined);
            void perform(shown.request);
          }}
          onClose={() => setShown(undefined)}
        />
      )}
    </SuspendingContext>
  );
}

async function inspect(model: Model, id: string): Promise<FindingView[] | undefined> {
  try {
    return await model.bridge.call('workload.inspect', id);
  } catch (error) {
    model.fail(error);
    return undefined;
  }
}

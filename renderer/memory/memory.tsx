/**
 * What applications have of memory, those that Torpor did not start among them, and what putting them aside gains: the one with
 * the most first. Looked at when it is shown, after what is done here, and when something has begun, ended or been put aside.
 */
import { useCallback, useEffect, useState } from 'react';
import type { MemoryNap, MemoryRow, MemoryView } from '../../main/ipc/memory-view.ts';
import { useSuspending } from '../home/suspend.tsx';
import { useAppState, useModel } from '../model.ts';
import { Row, Section } from '../settings/rows.tsx';
import { useFigures, useText } from '../texts/use-text.ts';

export function Memory() {
  const say = useText();
  const figures = useFigures();
  const { view, look } = useMemoryView();
  if (view === undefined) return null;
  const { applications, totalBytes, availableBytes, swapTotalBytes, swapFreeBytes, zramRatio } = view;
  const machine = [
    say('memory.machine', { available: figures.bytes(availableBytes), total: figures.bytes(totalBytes) }),
    swapTotalBytes === 0
      ? say('memory.noSwap')
      : say('memory.swap', { free: figures.bytes(swapFreeBytes), total: figures.bytes(swapTotalBytes) }),
    ...(zramRatio === undefined ? [] : [say('memory.zramRatio', { ratio: zramRatio.toFixed(1) })]),
  ];
  return (
    <>
      <header className="page-head">
        <h1>{say('nav.memory')}</h1>
      </header>
      <p>{machine.join(' ')}</p>
      <Section title={say('memory.applications')} help={say('memory.about')}>
        {applications.length === 0 && <Row label={say('memory.none')}>{null}</Row>}
        {applications.map((row) => (
          <Application key={row.target} row={row} look={look} />
        ))}
      </Section>
    </>
  );
}

function Application({ row, look }: { row: MemoryRow; look: () => void }) {
  const say = useText();
  const figures = useFigures();
  const [refusal, setRefusal] = useState<MemoryNap>();
  const { title, naps, pss, shared, file, swap, zram } = row;
  const parts = [
    ...(naps ? [say('state.napping')] : []),
    say('memory.parts', { shared: figures.bytes(shared), file: figures.bytes(file) }),
    ...(swap === 0 ? [] : [say('memory.inSwap', { swap: figures.bytes(swap), zram: figures.bytes(zram) })]),
    ...useMeasured(row),
  ];
  return (
    <Row label={`${title} · ${figures.bytes(pss)}`} help={parts.join(' · ')}>
      {refusal !== undefined && (
        <ul className="meta" lang="en">
          {refusal.reasons.map((reason) => (
            <li key={reason}>{reason}</li>
          ))}
        </ul>
      )}
      <Buttons row={row} refusal={refusal} refused={setRefusal} look={look} />
    </Row>
  );
}

/** What was measured with it, or with a program of the same name. */
function useMeasured({ measured: { suspend, resume, nap, wake } }: MemoryRow): string[] {
  const say = useText();
  const figures = useFigures();
  const seconds = (ms: number) => (ms / 1000).toFixed(ms < 1000 ? 2 : 1);
  return [
    ...(suspend === undefined
      ? []
      : [
          say('memory.suspendGained', {
            bytes: figures.bytes(suspend.gainBytes),
            disk: figures.bytes(suspend.diskBytes),
          }),
        ]),
    ...(resume === undefined ? [] : [say('memory.resumeTook', { seconds: seconds(resume.ms) })]),
    ...(nap === undefined ? [] : [say('memory.napGained', { bytes: figures.bytes(nap.gainBytes) })]),
    ...(wake === undefined ? [] : [say('memory.wakeTook', { seconds: seconds(wake.ms) })]),
  ];
}

function Buttons({
  row: { target, title, kind, naps },
  refusal,
  refused,
  look,
}: {
  row: MemoryRow;
  refusal: MemoryNap | undefined;
  refused: (refusal: MemoryNap | undefined) => void;
  look: () => void;
}) {
  const say = useText();
  const figures = useFigures();
  const model = useModel();
  const suspending = useSuspending();
  const [isBusy, setBusy] = useState(false);
  const perform = async (work: () => Promise<void>) => {
    setBusy(true);
    try {
      await work();
    } catch (error) {
      model.fail(error);
    }
    setBusy(false);
    look();
  };
  const nap = () =>
    perform(async () => {
      const done = await model.bridge.call('memory.nap', target, { anyway: refusal?.mayAnyway === true });
      refused(done.freedBytes === undefined ? done : undefined);
      if (done.freedBytes === undefined) model.announce(done.reasons.join(' '));
      else
        model.notify({
          level: 'info',
          message: say('said.napping', { title, bytes: figures.bytes(done.freedBytes) }),
          hint: '',
        });
    });
  const wake = () =>
    perform(async () => {
      await model.bridge.call('memory.wake', target);
      model.announce(say('said.awake', { title }));
    });
  const suspend = () =>
    perform(() => suspending.start({ workload: { id: target, title }, keepRunning: false }));
  if (naps)
    return (
      <button
        type="button"
        className="button button-primary"
        disabled={isBusy}
        aria-label={say('card.wake.name', { title })}
        onClick={() => void wake()}
      >
        {say('card.wake')}
      </button>
    );
  return (
    <div className="dialog-actions">
      {(refusal === undefined || refusal.mayAnyway) && (
        <button
          type="button"
          className="button button-tonal"
          disabled={isBusy}
          aria-label={say(refusal === undefined ? 'memory.nap.name' : 'memory.napAnyway.name', { title })}
          onClick={() => void nap()}
        >
          {say(refusal === undefined ? 'card.menu.nap' : 'memory.napAnyway')}
        </button>
      )}
      {kind !== 'process' && (
        <button
          type="button"
          className="button button-tonal"
          disabled={isBusy}
          aria-label={say('memory.suspend.name', { title })}
          onClick={() => void suspend()}
        >
          {say('card.suspend')}
        </button>
      )}
    </div>
  );
}

function useMemoryView(): { view: MemoryView | undefined; look: () => void } {
  const model = useModel();
  const { workloads } = useAppState();
  const [view, setView] = useState<MemoryView>();
  const look = useCallback(() => {
    model.bridge
      .call('memory.view')
      .then(setView)
      // Where it cannot be asked the connection's own sentence says so.
      .catch(() => {});
  }, [model]);
  const states = workloads.map(({ id, state }) => `${id} ${state}`).join(' ');
  // biome-ignore lint/correctness/useExhaustiveDependencies: another state of one is what it waits for
  useEffect(look, [look, states]);
  return { view, look };
}

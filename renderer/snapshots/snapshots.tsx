/** Snapshots: an application's states over time, with pictures, to look at, go back to and clear away. */
import { useEffect, useState } from 'react';
import type { SnapshotView, WorkloadView } from '../../main/ipc/view.ts';
import { IntervalChoice, IntervalNote } from '../home/interval.tsx';
import { useSuspending } from '../home/suspend.tsx';
import { useAppState, useKnown, useModel, useNow } from '../model.ts';
import { Confirm } from '../parts/dialog.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { hashOf } from '../place.ts';
import { useFigures, useText } from '../texts/use-text.ts';
import { TimelinePoint } from './point.tsx';
import { findSteps } from './steps.ts';

export function Snapshots({ workload: id }: { workload: string }) {
  const { workloads } = useAppState();
  const say = useText();
  const workload = workloads.find((each) => each.id === id);
  return (
    <>
      <a className="back-link" href={hashOf({ kind: 'home' })}>
        <Glyph name="back" />
        {say('snapshots.back')}
      </a>
      {workload === undefined ? (
        <div className="empty">
          <h1>{say('snapshots.unknown')}</h1>
        </div>
      ) : (
        <Timeline key={id} workload={workload} />
      )}
    </>
  );
}

function Timeline({ workload }: { workload: WorkloadView }) {
  const { id, title, icon, state } = workload;
  const say = useText();
  const figures = useFigures();
  const model = useModel();
  const snapshots = useSnapshots(workload);
  const [going, setGoing] = useState<string>();
  const [asked, setAsked] = useState<SnapshotView>();
  const { start, inspecting } = useSuspending();
  const runs = state === 'running' || state === 'napping';
  const isBusy = going !== undefined || workload.operation !== undefined;

  async function goTo(snapshot: SnapshotView) {
    const time = figures.time(snapshot.takenAt);
    setGoing(snapshot.id);
    model.announce(say('snapshots.going', { time }));
    try {
      await model.bridge.call('snapshot.goTo', snapshot.id);
      model.notify({ level: 'info', message: say('said.wentTo', { title, time }), hint: '' });
    } catch (error) {
      model.fail(error);
    }
    setGoing(undefined);
  }

  const total = snapshots?.reduce((sum, { bytesOnDisk }) => sum + bytesOnDisk, 0) ?? 0;
  return (
    <>
      <header className="page-head">
        <img className="app-icon" src={icon} alt="" width="56" height="56" />
        <div className="page-head-text">
          <h1>{say('snapshots.title', { title })}</h1>
          <p className="meta">
            <span className={`state state-${state}`}>{say(`state.${state}`)}</span>
            {snapshots !== undefined && snapshots.length > 0 && (
              <> · {say('snapshots.total', { count: snapshots.length, bytes: figures.bytes(total) })}</>
            )}
          </p>
          {workload.interval !== undefined && state !== 'ended' && (
            <IntervalNote interval={workload.interval} />
          )}
        </div>
        {(runs || (workload.interval !== undefined && state !== 'ended')) && (
          <div className="page-actions">
            <IntervalChoice workload={workload} isBusy={isBusy} />
            {runs && (
              <button
                type="button"
                className="button"
                disabled={isBusy || inspecting.has(id)}
                onClick={() => void start({ workload, keepRunning: true })}
              >
                <Glyph name="camera" />
                {say('snapshots.take')}
              </button>
            )}
          </div>
        )}
      </header>
      {snapshots === undefined ? (
        <p className="quiet">{say('snapshots.loading')}</p>
      ) : snapshots.length === 0 ? (
        <div className="empty">
          <span className="empty-mark">
            <Glyph name="history" />
          </span>
          <h2>{say('snapshots.empty')}</h2>
          <p>{say('snapshots.empty.text')}</p>
        </div>
      ) : (
        <>
          <TimeMachine
            workload={workload}
            snapshots={snapshots}
            isBusy={isBusy}
            going={going}
            onGo={(snapshot) => void goTo(snapshot)}
          />
          <Days workload={workload} snapshots={snapshots} isBusy={isBusy} onGo={setAsked} />
        </>
      )}
      {asked && (
        <Confirm
          title={say('snapshots.goTo.title', { time: figures.moment(asked.takenAt) })}
          text={say(runs ? 'snapshots.goTo.running' : 'snapshots.goTo.suspended', { title })}
          confirm={say('snapshots.goTo.confirm')}
          danger={false}
          onConfirm={() => void goTo(asked)}
          onClose={() => setAsked(undefined)}
        />
      )}
    </>
  );
}

/** The snapshots, read again whenever what is known of the application says that they have changed. */
function useSnapshots(workload: WorkloadView): SnapshotView[] | undefined {
  const model = useModel();
  const { connection, state } = useKnown();
  const [snapshots, setSnapshots] = useState<SnapshotView[]>();
  const canAsk = connection === 'open' && state?.engine.kind === 'ready';
  const { id } = workload;
  const version = [
    workload.state,
    workload.snapshot,
    workload.snapshots,
    workload.bytesOnDisk,
    state?.diskBytes,
  ].join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: `version` is what tells that the list has changed
  useEffect(() => {
    if (!canAsk) return;
    let isWanted = true;
    model.bridge.call('snapshots.list', id).then(
      (list) => isWanted && setSnapshots(list),
      (error) => {
        if (isWanted) setSnapshots((known) => known ?? []);
        model.fail(error);
      },
    );
    return () => {
      isWanted = false;
    };
  }, [model, id, canAsk, version]);
  return snapshots;
}

function TimeMachine({
  workload,
  snapshots,
  isBusy,
  going,
  onGo,
}: {
  workload: WorkloadView;
  snapshots: SnapshotView[];
  isBusy: boolean;
  going: string | undefined;
  onGo: (snapshot: SnapshotView) => void;
}) {
  const say = useText();
  const figures = useFigures();
  const now = useNow();
  const { back, forward } = findSteps(snapshots, workload, now);
  const target = snapshots.find((snapshot) => snapshot.id === going);
  return (
    <section className="machine" aria-label={say('snapshots.step.label')}>
      <button
        type="button"
        className="machine-step"
        disabled={isBusy || back === undefined}
        onClick={() => back && onGo(back)}
      >
        <Glyph name="back" />
        <span>
          <strong>{say('snapshots.step.back')}</strong>
          <small>
            {back
              ? say('snapshots.step.back.to', { time: figures.time(back.takenAt) })
              : say('snapshots.step.back.none')}
          </small>
        </span>
      </button>
      <p className="hint">
        {target ? say('snapshots.going', { time: figures.time(target.takenAt) }) : say('snapshots.step.text')}
      </p>
      <button
        type="button"
        className="machine-step machine-forward"
        disabled={isBusy || forward === undefined}
        onClick={() => forward && onGo(forward)}
      >
        <span>
          <strong>{say('snapshots.step.forward')}</strong>
          <small>
            {forward
              ? say('snapshots.step.forward.to', { time: figures.time(forward.takenAt) })
              : say('snapshots.step.forward.none')}
          </small>
        </span>
        <Glyph name="forward" />
      </button>
    </section>
  );
}

function Days({
  workload,
  snapshots,
  isBusy,
  onGo,
}: {
  workload: WorkloadView;
  snapshots: SnapshotView[];
  isBusy: boolean;
  onGo: (snapshot: SnapshotView) => void;
}) {
  const say = useText();
  const figures = useFigures();
  const now = useNow();
  const today = dayOf(new Date(now));
  const yesterday = dayOf(new Date(now - 86_400_000));
  const days = Map.groupBy(snapshots, ({ takenAt }) => dayOf(new Date(takenAt)));
  return (
    <div className="timeline">
      {[...days].map(([day, points]) => (
        <section key={day} className="section">
          <h2>
            {day === today
              ? say('snapshots.today')
              : day === yesterday
                ? say('snapshots.yesterday')
                : figures.day(points[0]?.takenAt ?? '')}
          </h2>
          <ol className="points">
            {points.map((snapshot) => (
              <TimelinePoint
                key={snapshot.id}
                workload={workload}
                snapshot={snapshot}
                isBusy={isBusy}
                onGo={() => onGo(snapshot)}
              />
            ))}
          </ol>
        </section>
      ))}
    </div>
  );
}

function dayOf(date: Date): string {
  return [date.getFullYear(), date.getMonth(), date.getDate()].join('-');
}

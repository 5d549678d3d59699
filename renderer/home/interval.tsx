/** Snapshots that are taken of an application by itself: how it goes, and how often that is wanted. */
import { useId, useState } from 'react';
import type { IntervalView, WorkloadView } from '../../main/ipc/view.ts';
import { useModel, useNow } from '../model.ts';
import { useFigures, useText } from '../texts/use-text.ts';

/** What is offered; another one that was set on the command line is offered too. */
const offeredSeconds = [300, 600, 1800, 3600, 6 * 3600];

/** When the next one comes. */
function useNext({ nextAt }: IntervalView): string {
  const say = useText();
  const figures = useFigures();
  const now = useNow();
  if (nextAt === undefined) return say('interval.waits');
  const seconds = (Date.parse(nextAt) - now) / 1000;
  return seconds <= 0 ? say('interval.now') : say('interval.next', { time: figures.duration(seconds) });
}

function Problem({ interval: { failures, problem } }: { interval: IntervalView }) {
  const say = useText();
  if (problem === undefined) return null;
  return <p className="damaged">{say('interval.failed', { count: failures, reason: problem.what })}</p>;
}

/** On the application's card. */
export function IntervalLine({ interval }: { interval: IntervalView }) {
  const say = useText();
  const figures = useFigures();
  const next = useNext(interval);
  return (
    <div className="card-interval">
      <p className="meta">
        {say('interval.card', { time: figures.duration(interval.everySeconds) })} · {next}
      </p>
      <Problem interval={interval} />
    </div>
  );
}

/** Among an application's snapshots. */
export function IntervalChoice({ workload, isBusy }: { workload: WorkloadView; isBusy: boolean }) {
  const { id, title, interval } = workload;
  const say = useText();
  const figures = useFigures();
  const model = useModel();
  const field = useId();
  const [isSetting, setSetting] = useState(false);
  const current = interval?.everySeconds;
  const seconds = [...new Set([...offeredSeconds, ...(current === undefined ? [] : [current])])].sort(
    (a, b) => a - b,
  );

  async function choose(everySeconds: number | null) {
    setSetting(true);
    try {
      await model.bridge.call('workload.setInterval', id, everySeconds);
      const message =
        everySeconds === null
          ? say('said.interval.off', { title })
          : say('said.interval', { title, time: figures.duration(everySeconds) });
      model.notify({ level: 'info', message, hint: '' });
    } catch (error) {
      model.fail(error);
    }
    setSetting(false);
  }

  return (
    <div className="interval-choice">
      <label htmlFor={field}>{say('interval.label')}</label>
      <select
        id={field}
        aria-label={say('interval.name', { title })}
        disabled={isBusy || isSetting}
        value={current ?? ''}
        onChange={({ target }) => void choose(target.value === '' ? null : Number(target.value))}
      >
        <option value="">{say('interval.off')}</option>
        {seconds.map((each) => (
          <option key={each} value={each}>
            {say('interval.every', { time: figures.duration(each) })}
          </option>
        ))}
      </select>
    </div>
  );
}

/** Below the heading of an application's snapshots. */
export function IntervalNote({ interval }: { interval: IntervalView }) {
  const say = useText();
  const next = useNext(interval);
  return (
    <div className="interval-note">
      <p className="meta">
        {next} · {say('interval.keeps', { count: interval.keepLast })}
      </p>
      <Problem interval={interval} />
    </div>
  );
}

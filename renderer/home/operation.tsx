/** How far a suspend or a resume is: the step in words, bytes, rate, time left, and the way to give it up. */
import type { Operation, ProgressView, WorkloadView } from '../../main/ipc/view.ts';
import { Meter } from '../parts/meter.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { useSuspending } from './suspend.tsx';

/** Bytes, rate and time left, as far as they are known. */
export function useProgressTexts({
  bytesDone,
  bytesTotal,
  bytesPerSecond,
  secondsLeft,
}: ProgressView): string[] {
  const say = useText();
  const figures = useFigures();
  return [
    bytesTotal > 0 &&
      say('progress.amount', { done: figures.bytes(bytesDone), total: figures.bytes(bytesTotal) }),
    bytesPerSecond !== undefined && say('progress.rate', { bytes: figures.bytes(bytesPerSecond) }),
    secondsLeft !== undefined && say('progress.left', { time: figures.duration(secondsLeft) }),
  ].filter((text) => text !== false);
}

export const shareOf = ({ bytesDone, bytesTotal }: ProgressView) =>
  bytesTotal > 0 ? bytesDone / bytesTotal : undefined;

/** Of an application that can be used already: quieter than what one waits for. */
export function LoadingProgress({ title, loading }: { title: string; loading: ProgressView }) {
  const say = useText();
  const texts = [say('phase.load'), ...useProgressTexts(loading)];
  return (
    <div className="loading">
      <p className="meta">{texts.join(' · ')}</p>
      <Meter
        role="progressbar"
        name={say('loading.name', { title })}
        share={shareOf(loading)}
        text={texts.join(', ')}
      />
    </div>
  );
}

export function OperationProgress({ workload, operation }: { workload: WorkloadView; operation: Operation }) {
  const say = useText();
  const { cancel } = useSuspending();
  const { title } = workload;
  const { phase, cancelling } = operation;

  const step = cancelling ? say('card.cancelling') : say(`phase.${phase}`);
  const figuresShown = useProgressTexts(operation);

  return (
    <div className="operation">
      <div className="operation-text">
        <p className="operation-step" role="status">
          {step}
        </p>
        <p className="meta">{figuresShown.join(' · ') || '\u00a0'}</p>
      </div>
      <button
        type="button"
        className="button"
        disabled={cancelling}
        aria-label={say(`card.cancel.${operation.operation}.name`, { title })}
        onClick={() => void cancel(workload)}
      >
        {say('card.cancel')}
      </button>
      <Meter
        role="progressbar"
        name={say(`progress.${operation.operation}.name`, { title })}
        share={shareOf(operation)}
        text={[step, ...figuresShown].join(', ')}
      />
    </div>
  );
}

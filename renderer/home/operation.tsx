/** How far a suspend or a resume is: the step in words, bytes, rate, time left, and the way to give it up. */
import type { Operation, WorkloadView } from '../../main/ipc/view.ts';
import { Meter } from '../parts/meter.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { useSuspending } from './suspend.tsx';

export function OperationProgress({ workload, operation }: { workload: WorkloadView; operation: Operation }) {
  const say = useText();
  const figures = useFigures();
  const { cancel } = useSuspending();
  const { title } = workload;
  const { phase, bytesDone, bytesTotal, bytesPerSecond, secondsLeft, cancelling } = operation;

  const step = cancelling ? say('card.cancelling') : say(`phase.${phase}`);
  const figuresShown = [
    bytesTotal > 0 &&
      say('progress.amount', { done: figures.bytes(bytesDone), total: figures.bytes(bytesTotal) }),
    bytesPerSecond !== undefined && say('progress.rate', { bytes: figures.bytes(bytesPerSecond) }),
    secondsLeft !== undefined && say('progress.left', { time: figures.duration(secondsLeft) }),
  ].filter((text) => text !== false);

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
        share={bytesTotal > 0 ? bytesDone / bytesTotal : undefined}
        text={[step, ...figuresShown].join(', ')}
      />
    </div>
  );
}

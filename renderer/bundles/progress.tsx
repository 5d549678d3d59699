/** How far a bundle is: the step in words, bytes, rate, time left, that the drive must stay, and the way to give it up. */
import type { BundleOperation, ProgressView, WorkloadView } from '../../main/ipc/view.ts';
import { shareOf, useProgressTexts } from '../home/operation.tsx';
import { useAppState, useModel } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import { Meter } from '../parts/meter.tsx';
import { useText } from '../texts/use-text.ts';

export function BundleProgress({ bundle }: { bundle: BundleOperation }) {
  const { workloads } = useAppState();
  const model = useModel();
  const say = useText();
  const { path, operation, phase, cancelling, drive } = bundle;
  const operations = operationsOf(bundle, workloads);
  const isByWorkloads = phase === 'prepare' || phase === 'resume';
  const isSuspending = phase === 'prepare' && operations.length > 0;
  const step = cancelling ? say('card.cancelling') : say(`bundles.phase.${isSuspending ? 'suspend' : phase}`);
  const progress = isByWorkloads ? together(operations) : bundle;
  const texts = useProgressTexts(progress);
  const cancel = () => void model.bridge.call('bundle.cancel').catch((error) => model.fail(error));

  return (
    <section className="bundle-progress" aria-label={say(`bundles.progress.${operation}`)}>
      <div className="operation">
        <div className="operation-text">
          <p className="operation-step" role="status">
            {step}
          </p>
          <p className="meta">{texts.join(' · ') || '\u00a0'}</p>
        </div>
        <button type="button" className="button" disabled={cancelling} onClick={cancel}>
          {say('card.cancel')}
        </button>
        <Meter
          role="progressbar"
          name={say('bundles.progress.name', { path })}
          share={shareOf(progress)}
          text={[step, ...texts].join(', ')}
        />
      </div>
      <p className="bundle-stay">
        <Glyph name="alert" />
        {drive === undefined
          ? say('bundles.progress.wait', { path })
          : say('bundles.progress.stay', { drive })}
      </p>
    </section>
  );
}

/** Of its workloads, those that are being suspended or resumed. */
const operationsOf = ({ workloads: ids }: BundleOperation, workloads: readonly WorkloadView[]) =>
  workloads.flatMap(({ id, operation }) => (operation && ids.includes(id) ? [operation] : []));

function together(operations: readonly ProgressView[]): ProgressView {
  const sum = (of: (each: ProgressView) => number) => operations.reduce((total, each) => total + of(each), 0);
  const rate = sum(({ bytesPerSecond }) => bytesPerSecond ?? 0);
  const [bytesDone, bytesTotal] = [sum((each) => each.bytesDone), sum((each) => each.bytesTotal)];
  const estimate = rate > 0 ? { bytesPerSecond: rate, secondsLeft: (bytesTotal - bytesDone) / rate } : {};
  return { bytesDone, bytesTotal, ...estimate };
}

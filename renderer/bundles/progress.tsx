/** How far a bundle is: the step in words, bytes, rate, time left, that the drive must stay, and the way to give it up. */
import type { BundleOperation } from '../../main/ipc/view.ts';
import { shareOf, useProgressTexts } from '../home/operation.tsx';
import { useModel } from '../model.ts';
import { Meter } from '../parts/meter.tsx';
import { useText } from '../texts/use-text.ts';

export function BundleProgress({ bundle }: { bundle: BundleOperation }) {
  const model = useModel();
  const say = useText();
  const { path, operation, phase, cancelling, drive } = bundle;
  const step = cancelling ? say('card.cancelling') : say(`bundles.phase.${operation}.${phase}`);
  const texts = useProgressTexts(bundle);
  const cancel = () => void model.bridge.call('bundle.cancel').catch((error) => model.fail(error));

  return (
    <section className="bundle-progress">
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
          share={shareOf(bundle)}
          text={[step, ...texts].join(', ')}
        />
      </div>
      <p className="hint">
        {drive === undefined
          ? say('bundles.progress.wait', { path })
          : say('bundles.progress.stay', { drive })}
      </p>
    </section>
  );
}

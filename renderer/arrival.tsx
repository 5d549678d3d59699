/** After a jump to another kernel after which not all came back: what happened, and what to do. */
import { useKnown, useModel } from './model.ts';
import { DismissButton } from './parts/dismiss.tsx';
import { Glyph } from './parts/glyph.tsx';
import { useText } from './texts/use-text.ts';

export function ArrivalBanner() {
  const { state } = useKnown();
  const model = useModel();
  const say = useText();
  const { arrival } = state ?? {};
  const dismiss = () => void model.bridge.call('arrival.dismiss').catch((error) => model.fail(error));
  return (
    <div role="status">
      {arrival !== undefined && (
        <section className="banner" aria-label={say('arrival.label')}>
          <Glyph name="alert" />
          <div className="banner-text">
            <p>{arrival.what}</p>
            {arrival.left.map(({ workload, what }) => (
              <p key={workload}>{what}</p>
            ))}
            {arrival.hint !== '' && <p className="hint">{arrival.hint}</p>}
          </div>
          <DismissButton name={say('arrival.dismiss')} onDismiss={dismiss} />
        </section>
      )}
    </div>
  );
}

/** In every other place: that a drive must stay where it is, and when it can be removed. */
import { useKnown } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import { hashOf } from '../place.ts';
import { useText } from '../texts/use-text.ts';

export function BundleBanner() {
  const { state } = useKnown();
  const say = useText();
  const { bundle, bundleEnd: end } = state ?? {};
  const text = () => {
    if (bundle !== undefined)
      return bundle.drive === undefined
        ? say('bundles.progress.wait', { path: bundle.path })
        : say('bundles.progress.stay', { drive: bundle.drive });
    if (end?.kind === 'failed')
      return say(`bundles.${end.cancelled ? 'cancelled' : 'failed'}.${end.operation}`);
    if (end?.kind === 'exported')
      return end.drive === undefined ? say('bundles.done') : say('bundles.done.remove', { drive: end.drive });
    return end === undefined ? '' : say('bundles.in.done', { count: end.workloads.length });
  };
  return (
    <div role="status">
      {(bundle ?? end) !== undefined && (
        <p className="banner">
          <Glyph name="bundles" />
          <span className="banner-text">{text()}</span>
          <a href={hashOf({ kind: 'bundles' })}>{say('bundles.look')}</a>
        </p>
      )}
    </div>
  );
}

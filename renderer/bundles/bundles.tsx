/** Taking applications along on a drive, and bringing them in from one. */
import { useEffect, useRef } from 'react';
import { useAppState, useModel } from '../model.ts';
import { placeOf } from '../place.ts';
import { useText } from '../texts/use-text.ts';
import { BringIn } from './bring-in.tsx';
import { EndOf } from './ends.tsx';
import { BundleProgress } from './progress.tsx';
import { TakeAlong } from './take-along.tsx';
import { useDrives } from './use-drives.ts';

/** @param chosen the workload that is to be taken along, where one was chosen on the way here */
export function Bundles({ chosen }: { chosen: string | undefined }) {
  const { bundle, bundleEnd } = useAppState();
  const model = useModel();
  const say = useText();
  const drives = useDrives();
  const told = useRef<HTMLDivElement>(null);
  const isBusy = bundle !== undefined;
  const wasBusy = useRef(isBusy);
  const isAtField = bundleEnd?.kind === 'failed' && bundleEnd.isPassphrase;

  // The form that had the focus is not there meanwhile. A passphrase that is wrong has it by itself.
  useEffect(() => {
    if (wasBusy.current === isBusy) return;
    wasBusy.current = isBusy;
    if (isBusy || !isAtField) told.current?.focus();
  }, [isBusy, isAtField]);

  // Who goes to another place has seen how it ended, and it need not be told there. An engine that is away is none.
  useEffect(
    () => () => {
      if (model.known.state?.bundleEnd !== undefined && placeOf(location.hash).kind !== 'bundles')
        void model.bridge.call('bundle.dismiss').catch((error) => model.fail(error));
    },
    [model],
  );

  return (
    <>
      <header className="page-head">
        <h1>{say('bundles.title')}</h1>
      </header>
      <p className="quiet">{say('bundles.text')}</p>
      {/* Focused by the program alone. */}
      <div ref={told} tabIndex={-1} className="bundle-told">
        {bundle !== undefined && <BundleProgress bundle={bundle} />}
        <div aria-live="polite">
          {bundleEnd !== undefined && !isAtField && <EndOf key={bundleEnd.number} end={bundleEnd} />}
        </div>
      </div>
      {/* Kept while something is under way, so that nothing has to be entered twice. */}
      <div hidden={isBusy}>
        <TakeAlong chosen={chosen} drives={drives} />
        <BringIn drives={drives} />
      </div>
    </>
  );
}

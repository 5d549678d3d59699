/** Taking applications along on a drive, and bringing them in from one. */
import { useState } from 'react';
import type { CallResult } from '../../main/ipc/schema.ts';
import { useAppState } from '../model.ts';
import { useText } from '../texts/use-text.ts';
import { BringIn } from './bring-in.tsx';
import { BroughtIn, Problem, TakenAlong } from './ends.tsx';
import { BundleProgress } from './progress.tsx';
import { TakeAlong } from './take-along.tsx';
import { useDrives } from './use-drives.ts';

/** How the last one ended that this window has asked for. */
export type End =
  | { kind: 'exported'; result: CallResult<'bundle.export'> }
  | { kind: 'imported'; result: CallResult<'bundle.import'> }
  | { kind: 'failed'; operation: 'export' | 'import'; error: unknown };

/** @param chosen the workload that is to be taken along, where one was chosen on the way here */
export function Bundles({ chosen }: { chosen: string | undefined }) {
  const { bundle } = useAppState();
  const say = useText();
  const drives = useDrives();
  const [end, setEnd] = useState<End>();

  return (
    <>
      <header className="page-head">
        <h1>{say('bundles.title')}</h1>
      </header>
      <p className="quiet">{say('bundles.text')}</p>
      <div aria-live="polite">
        {end?.kind === 'exported' && <TakenAlong result={end.result} />}
        {end?.kind === 'imported' && <BroughtIn result={end.result} />}
        {end?.kind === 'failed' && <Problem error={end.error} />}
      </div>
      {bundle !== undefined && <BundleProgress bundle={bundle} />}
      {/* Kept while something is under way, so that nothing has to be entered twice. */}
      <div hidden={bundle !== undefined}>
        <TakeAlong chosen={chosen} drives={drives} onEnd={setEnd} />
        <BringIn drives={drives} onEnd={setEnd} />
      </div>
    </>
  );
}

/** How an export or an import ended, in plain words. */
import type { BundleEnd } from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';
import { DismissButton } from '../parts/dismiss.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { hashOf } from '../place.ts';
import { useFigures, useText } from '../texts/use-text.ts';

type Of<K extends BundleEnd['kind']> = Extract<BundleEnd, { kind: K }>;
type Named = Of<'imported'>['workloads'];

export function EndOf({ end }: { end: BundleEnd }) {
  const say = useText();
  const model = useModel();
  const dismiss = () => void model.bridge.call('bundle.dismiss').catch((error) => model.fail(error));
  return (
    <section className="bundle-end" aria-label={say('bundles.end')}>
      <div className="bundle-end-text">
        {end.kind === 'exported' && <TakenAlong end={end} />}
        {end.kind === 'imported' && <BroughtIn end={end} />}
        {end.kind === 'failed' && <Failed end={end} />}
      </div>
      <DismissButton name={say('bundles.end.dismiss')} onDismiss={dismiss} />
    </section>
  );
}

function TakenAlong({
  end: { path, drive, bytes, bytesWritten, workloads, findings },
}: {
  end: Of<'exported'>;
}) {
  const say = useText();
  const figures = useFigures();
  const amounts = { path, bytes: figures.bytes(bytes), written: figures.bytes(bytesWritten) };
  return (
    <>
      <h2>{drive === undefined ? say('bundles.done') : say('bundles.done.remove', { drive })}</h2>
      <p>
        {bytesWritten < bytes ? say('bundles.done.updated', amounts) : say('bundles.done.written', amounts)}
      </p>
      <WorkloadLines workloads={workloads} />
      <FindingLines findings={findings} />
    </>
  );
}

function BroughtIn({ end }: { end: Of<'imported'> }) {
  const say = useText();
  const { workloads, isHome, documents, findings, notResumed } = end;
  return (
    <>
      <h2>{say('bundles.in.done', { count: workloads.length })}</h2>
      <p>{isHome ? say('bundles.in.home') : say('bundles.in.guest')}</p>
      <WorkloadLines workloads={workloads} />
      {documents.length > 0 && (
        <ul className="bundle-lines">
          {documents.map(({ path, outcome, to }) => (
            <li key={path}>
              <code>{path}</code> {say(`bundles.document.${outcome}`)}
              {to !== undefined && (
                <>
                  {' '}
                  <code>{to}</code>
                </>
              )}
            </li>
          ))}
        </ul>
      )}
      <FindingLines findings={findings} />
      {notResumed !== undefined && <Problem {...notResumed} />}
    </>
  );
}

function Failed({ end: { operation, cancelled, message, hint, suspended } }: { end: Of<'failed'> }) {
  const say = useText();
  return (
    <>
      {cancelled ? (
        <h2>{say(`bundles.cancelled.${operation}`)}</h2>
      ) : (
        <>
          <h2>{say(`bundles.failed.${operation}`)}</h2>
          <Problem message={message} hint={hint} />
        </>
      )}
      {suspended.length > 0 && (
        <>
          <p>{say('bundles.suspended', { count: suspended.length })}</p>
          <WorkloadLines workloads={suspended} />
        </>
      )}
    </>
  );
}

/** Each as it is now. */
function WorkloadLines({ workloads }: { workloads: Named }) {
  const say = useText();
  const known = useAppState().workloads;
  return (
    <>
      <ul className="bundle-lines">
        {workloads.map(({ id, name }) => {
          const now = known.find((each) => each.id === id);
          return (
            <li key={id}>
              {now?.title ?? name}
              {now !== undefined && <span className="meta"> · {say(`state.${now.state}`)}</span>}
            </li>
          );
        })}
      </ul>
      <p>
        <a href={hashOf({ kind: 'home' })}>{say('bundles.see')}</a>
      </p>
    </>
  );
}

function FindingLines({ findings }: { findings: Of<'exported'>['findings'] }) {
  const said = findings.filter(({ verdict }) => verdict !== 'handled');
  if (said.length === 0) return null;
  return (
    <ul className="findings">
      {said.map(({ what, hint, verdict }) => (
        <li key={what} className={`finding finding-${verdict}`}>
          <Glyph name="alert" />
          {/* The engine speaks English. */}
          <div className="finding-text" lang="en">
            <p>{what}</p>
            {hint !== '' && <p className="hint">{hint}</p>}
          </div>
        </li>
      ))}
    </ul>
  );
}

/** What the engine, or the app, refused: in English. */
function Problem({ message, hint }: { message: string; hint: string }) {
  return (
    <div className="problem" role="alert" lang="en">
      <div className="finding-text">
        <p>{message}</p>
        {hint !== '' && <p className="hint">{hint}</p>}
      </div>
    </div>
  );
}

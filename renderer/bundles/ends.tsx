/** How an export or an import ended, in plain words. */
import type { CallResult } from '../../main/ipc/schema.ts';
import { CallFailed } from '../bridge.ts';
import { Glyph } from '../parts/glyph.tsx';
import { hashOf } from '../place.ts';
import { useFigures, useText } from '../texts/use-text.ts';

type Findings = CallResult<'bundle.export'>['findings'];

export function TakenAlong({ result }: { result: CallResult<'bundle.export'> }) {
  const say = useText();
  const figures = useFigures();
  const { path, drive, bytes, bytesWritten, findings } = result;
  const amounts = { path, bytes: figures.bytes(bytes), written: figures.bytes(bytesWritten) };
  return (
    <section className="bundle-end">
      <h2>{drive === undefined ? say('bundles.done') : say('bundles.done.remove', { drive })}</h2>
      <p>
        {bytesWritten < bytes ? say('bundles.done.updated', amounts) : say('bundles.done.written', amounts)}
      </p>
      <FindingLines findings={findings} />
    </section>
  );
}

export function BroughtIn({ result }: { result: CallResult<'bundle.import'> }) {
  const say = useText();
  const { workloads, isHome, documents, findings, notResumed } = result;
  return (
    <section className="bundle-end">
      <h2>{say('bundles.in.done', { count: workloads.length })}</h2>
      <p>
        {isHome ? say('bundles.in.home') : say('bundles.in.guest')}{' '}
        <a href={hashOf({ kind: 'home' })}>{say('bundles.in.see')}</a>
      </p>
      {documents.length > 0 && (
        <ul className="documents">
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
      {notResumed !== undefined && (
        <div className="problem" role="alert" lang="en">
          <p>{notResumed.message}</p>
          {notResumed.hint !== '' && <p className="hint">{notResumed.hint}</p>}
        </div>
      )}
    </section>
  );
}

function FindingLines({ findings }: { findings: Findings }) {
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

/** What the engine, or the app, refused. */
export function Problem({ error }: { error: unknown }) {
  const say = useText();
  const { message, hint } =
    error instanceof CallFailed
      ? error
      : new CallFailed({ code: 'failed', message: String(error), hint: '' });
  return (
    <div className="problem" role="alert" lang={message === '' ? undefined : 'en'}>
      <p>{message || say('connection.call')}</p>
      {hint !== '' && <p className="hint">{hint}</p>}
    </div>
  );
}

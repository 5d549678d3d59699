/** How a saving or a restore ended: what there is now, and each application that it was done without, with the reason. */
import { useAppState } from '../model.ts';
import { DismissButton } from '../parts/dismiss.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { type SessionEnd, useSessionsDoing } from './doing.tsx';
import { Reasons } from './refused.tsx';

export function SessionEndNote({ end }: { end: SessionEnd }) {
  const { kind, name, left } = end;
  const { workloads } = useAppState();
  const { dismiss } = useSessionsDoing();
  const say = useText();
  const figures = useFigures();
  return (
    <section className="bundle-end session-end" aria-label={say('sessions.end')}>
      <div className="bundle-end-text">
        <h2>
          {kind === 'save'
            ? say('sessions.done.save', { name, count: end.suspended })
            : say('sessions.done.restore', { name, count: end.resumed })}
        </h2>
        {kind === 'save' && <p>{say('sessions.done.freed', { bytes: figures.bytes(end.freedBytes) })}</p>}
        {left.length > 0 && (
          <>
            <p>{say(`sessions.left.${kind}`)}</p>
            <ul className="session-left">
              {left.map(({ workload, name: ownName, what, hint, findings }) => (
                <li key={workload}>
                  <h3>{workloads.find(({ id }) => id === workload)?.title ?? ownName}</h3>
                  <Reasons
                    message={what}
                    hint={hint}
                    findings={findings.filter(({ verdict }) => verdict === 'blocking')}
                  />
                </li>
              ))}
            </ul>
          </>
        )}
      </div>
      <DismissButton name={say('sessions.end.dismiss')} onDismiss={dismiss} />
    </section>
  );
}

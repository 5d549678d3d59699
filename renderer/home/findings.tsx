/** What an inspection found, in plain words, with what can be done about it. */
import { useState } from 'react';
import type { FindingView } from '../../main/ipc/view.ts';
import { CallFailed } from '../bridge.ts';
import { useModel } from '../model.ts';
import { Dialog } from '../parts/dialog.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { useText } from '../texts/use-text.ts';

interface FindingsDialogProps {
  title: string;
  workload: string;
  keepRunning: boolean;
  findings: FindingView[];
  onFindings: (findings: FindingView[]) => void;
  onSuspend: () => void;
  onClose: () => void;
}

export function FindingsDialog(props: FindingsDialogProps) {
  const { title, workload, keepRunning, findings, onFindings, onSuspend, onClose } = props;
  const model = useModel();
  const say = useText();
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<CallFailed>();

  const blocking = findings.filter(({ verdict }) => verdict === 'blocking');
  const degraded = findings.filter(({ verdict }) => verdict === 'degraded');
  const handled = findings.filter(({ verdict }) => verdict === 'handled');
  const isBlocked = blocking.length > 0;
  const kind = isBlocked ? 'blocked' : degraded.length > 0 ? 'degraded' : 'clear';

  async function ask(question: () => Promise<FindingView[]>) {
    setBusy(true);
    setProblem(undefined);
    try {
      onFindings(await question());
    } catch (error) {
      setProblem(
        error instanceof CallFailed
          ? error
          : new CallFailed({ code: 'failed', message: String(error), hint: '' }),
      );
    }
    setBusy(false);
  }

  const again = () => ask(() => model.bridge.call('workload.inspect', workload));
  const go =
    kind === 'degraded'
      ? keepRunning
        ? say('findings.snapshotAnyway')
        : say('findings.anyway')
      : keepRunning
        ? say('findings.snapshot')
        : say('findings.suspend');

  return (
    <Dialog
      title={kind === 'degraded' ? say('findings.degraded.title') : say(`findings.${kind}.title`, { title })}
      onClose={onClose}
      actions={
        <>
          <button type="button" className="button" onClick={onClose}>
            {isBlocked ? say('dialog.close') : say('dialog.cancel')}
          </button>
          {isBlocked ? (
            <button type="button" className="button button-primary" disabled={isBusy} onClick={again}>
              {say('findings.again')}
            </button>
          ) : (
            <button type="button" className="button button-primary" onClick={onSuspend}>
              {go}
            </button>
          )}
        </>
      }
    >
      <p>{kind === 'degraded' ? say('findings.degraded.text', { title }) : say(`findings.${kind}.text`)}</p>
      <div aria-live="polite" aria-busy={isBusy}>
        {isBlocked && (
          <FindingList
            findings={blocking}
            isBusy={isBusy}
            onRemedy={({ id, pid }) =>
              void ask(() =>
                model.bridge.call('workload.remedy', workload, { id, ...(pid === undefined ? {} : { pid }) }),
              )
            }
          />
        )}
        {isBlocked && degraded.length > 0 && <p>{say('findings.also')}</p>}
        <FindingList findings={degraded} isBusy={isBusy} />
      </div>
      {problem && (
        <div className="problem" role="alert">
          <p>{problem.message || say('connection.call')}</p>
          {problem.hint !== '' && <p className="hint">{problem.hint}</p>}
        </div>
      )}
      {handled.length > 0 && (
        <details className="handled">
          <summary>{say('findings.handled', { count: handled.length })}</summary>
          <ul lang="en">
            {handled.map((finding) => (
              <li key={finding.what}>{finding.what}</li>
            ))}
          </ul>
        </details>
      )}
    </Dialog>
  );
}

function FindingList({
  findings,
  isBusy,
  onRemedy,
}: {
  findings: FindingView[];
  isBusy: boolean;
  onRemedy?: (remedy: NonNullable<FindingView['remedy']>) => void;
}) {
  if (findings.length === 0) return null;
  return (
    <ul className="findings">
      {findings.map(({ what, hint, verdict, remedy }) => (
        <li key={`${verdict} ${what}`} className={`finding finding-${verdict}`}>
          <Glyph name="alert" />
          {/* The engine speaks English. */}
          <div className="finding-text" lang="en">
            <p>{what}</p>
            {hint !== '' && <p className="hint">{hint}</p>}
          </div>
          {remedy && onRemedy && (
            <button type="button" className="button" disabled={isBusy} onClick={() => onRemedy(remedy)}>
              {remedy.label}
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}

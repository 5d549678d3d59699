/** Why a session was not saved, which of its applications that is due to, and the way to save it without that one. */
import { Dialog } from '../parts/dialog.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { useText } from '../texts/use-text.ts';
import type { Refusal, SaveRequest } from './doing.tsx';

export function RefusedDialog({
  request,
  refusal: { message, hint, findings },
  onAgain,
  onClose,
}: {
  request: SaveRequest;
  refusal: Refusal;
  onAgain: (request: SaveRequest) => void;
  onClose: () => void;
}) {
  const say = useText();
  const canPartly = request.workloads.length > 1 && !request.partial;
  return (
    <Dialog
      title={say('sessions.refused.title')}
      onClose={onClose}
      actions={
        <>
          <button type="button" className="button" onClick={onClose}>
            {say('dialog.close')}
          </button>
          <button type="button" className="button" onClick={() => onAgain(request)}>
            {say('findings.again')}
          </button>
          {canPartly && (
            <button
              type="button"
              className="button button-primary"
              onClick={() => onAgain({ ...request, partial: true })}
            >
              {say('sessions.others')}
            </button>
          )}
        </>
      }
    >
      <p>{say('sessions.refused.text')}</p>
      <Reasons message={message} hint={hint} findings={findings} />
    </Dialog>
  );
}

/** What the engine says, with what blocks it: in English. */
export function Reasons({ message, hint, findings }: Pick<Refusal, 'message' | 'hint' | 'findings'>) {
  // The sentence has the first of them already.
  const others = findings.filter(({ what }) => !message.includes(what));
  return (
    <>
      <div className="problem" lang="en">
        <div className="finding-text">
          <p>{message}</p>
          {hint !== '' && <p className="hint">{hint}</p>}
        </div>
      </div>
      {others.length > 0 && (
        <ul className="findings" lang="en">
          {others.map((finding) => (
            <li key={finding.what} className="finding finding-blocking">
              <Glyph name="alert" />
              <div className="finding-text">
                <p>{finding.what}</p>
                {finding.hint !== '' && <p className="hint">{finding.hint}</p>}
              </div>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

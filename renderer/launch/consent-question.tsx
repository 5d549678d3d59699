/** Asks whether an application may be started although it gives something up in a capsule, such as its sandbox. */
import type { ConsentView } from '../../main/ipc/view.ts';
import { Dialog } from '../parts/dialog.tsx';
import { useText } from '../texts/use-text.ts';

export interface Question {
  /** Of the application. */
  name: string;
  consents: readonly ConsentView[];
  /** Starts it with the user's consent. */
  agree: () => void;
}

export function ConsentQuestion({ name, consents, agree, onClose }: Question & { onClose: () => void }) {
  const say = useText();
  return (
    <Dialog
      title={say('launch.consent.title', { name })}
      role="alertdialog"
      onClose={onClose}
      actions={
        <>
          <button type="button" className="button" onClick={onClose}>
            {say('dialog.cancel')}
          </button>
          <button
            type="button"
            className="button button-primary"
            onClick={() => {
              onClose();
              agree();
            }}
          >
            {say('launch.consent.agree')}
          </button>
        </>
      }
    >
      {consents.map(({ id, what }) => (
        <p key={id}>{what}</p>
      ))}
      <p className="quiet">{say('launch.consent.once')}</p>
    </Dialog>
  );
}

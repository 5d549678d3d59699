/** A dialog in front of the page: the browser's own, so that the page behind cannot be reached meanwhile. */
import { type ReactNode, useEffect, useId, useRef } from 'react';
import { useText } from '../texts/use-text.ts';

interface DialogProps {
  title: string;
  /** Called when it is closed in any way but by the dialog going away. */
  onClose: () => void;
  children: ReactNode;
  /** The buttons at its end, the one that does it last. */
  actions: ReactNode;
  size?: 'normal' | 'wide';
  /** Alert dialogs ask about what cannot be taken back. */
  role?: 'dialog' | 'alertdialog';
}

export function Dialog({ title, onClose, children, actions, size = 'normal', role = 'dialog' }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  const textId = useId();

  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // What had the focus may be gone, such as the menu entry that opened this.
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);

  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: a click beside the dialog is a shortcut; Escape and the buttons are the way
    <dialog
      ref={ref}
      role={role === 'alertdialog' ? 'alertdialog' : undefined}
      className={`dialog dialog-${size}`}
      aria-labelledby={titleId}
      aria-describedby={textId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
    >
      <div className="dialog-body">
        <h2 id={titleId}>{title}</h2>
        <div id={textId} className="dialog-text">
          {children}
        </div>
        <div className="dialog-actions">{actions}</div>
      </div>
    </dialog>
  );
}

/** Asks before something that cannot be taken back. The way out has the focus. */
export function Confirm({
  title,
  text,
  confirm,
  danger = true,
  onConfirm,
  onClose,
}: {
  title: string;
  text: string;
  confirm: string;
  danger?: boolean;
  onConfirm: () => void;
  onClose: () => void;
}) {
  const say = useText();
  return (
    <Dialog
      title={title}
      role="alertdialog"
      onClose={onClose}
      actions={
        <>
          <button type="button" className="button" onClick={onClose}>
            {say('dialog.cancel')}
          </button>
          <button
            type="button"
            className={danger ? 'button button-danger' : 'button button-primary'}
            onClick={() => {
              onClose();
              onConfirm();
            }}
          >
            {confirm}
          </button>
        </>
      }
    >
      <p>{text}</p>
    </Dialog>
  );
}

/** A sentence, with a button, where the browser stands between the two clipboards. */
import { DismissButton } from '../parts/dismiss.tsx';
import type { ClipboardTrouble, SharedClipboard } from './clipboard.ts';
import { useScreenText } from './texts/use-text.ts';

interface ClipboardNoteProps {
  title: string;
  trouble: ClipboardTrouble;
  clipboard: SharedClipboard;
  onDismiss: () => void;
}

export function ClipboardNote({ title, trouble, clipboard, onDismiss }: ClipboardNoteProps) {
  const say = useScreenText();
  return (
    <div className="screen-note" role="status">
      <p>
        {trouble.kind === 'read-asks'
          ? say('screen.clipboard.asks', { title })
          : trouble.kind === 'read-denied'
            ? say('screen.clipboard.denied')
            : say('screen.clipboard.refused', { title })}
      </p>
      {trouble.kind === 'read-asks' && (
        <button type="button" className="button" onClick={() => void clipboard.allow()}>
          {say('screen.clipboard.allow')}
        </button>
      )}
      {trouble.kind === 'write-refused' && (
        <button type="button" className="button" onClick={() => void clipboard.writeAgain(trouble.text)}>
          {say('screen.clipboard.copy')}
        </button>
      )}
      <DismissButton name={say('screen.dismiss')} onDismiss={onDismiss} />
    </div>
  );
}

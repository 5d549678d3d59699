/** Notices at the edge of the window. Errors stay until they are dismissed; what merely informs goes by itself. */
import { useEffect, useState } from 'react';
import { type Toast, useKnown, useModel } from './model.ts';
import { Glyph } from './parts/glyph.tsx';
import { useText } from './texts/use-text.ts';

const shownMs = 7000;

export function Notices() {
  const { toasts, announcement } = useKnown();
  const say = useText();
  return (
    <>
      <section className="toasts" aria-label={say('notices.label')}>
        {toasts.map((toast) => (
          <ToastBox key={toast.key} toast={toast} />
        ))}
      </section>
      <div className="visually-hidden" role="status">
        {announcement}
      </div>
    </>
  );
}

function ToastBox({ toast }: { toast: Toast }) {
  const { key, level, message, hint } = toast;
  const model = useModel();
  const say = useText();
  const [isHeld, setHeld] = useState(false);

  useEffect(() => {
    if (level !== 'info' || isHeld) return;
    const timer = setTimeout(() => model.dismiss(key), shownMs);
    return () => clearTimeout(timer);
  }, [model, key, level, isHeld]);

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: pointing at it only keeps it from going
    <div
      className={`toast toast-${level}`}
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocus={() => setHeld(true)}
      onBlur={() => setHeld(false)}
    >
      {level !== 'info' && <Glyph name="alert" />}
      <div className="toast-text" role={level === 'info' ? 'status' : 'alert'}>
        <p>{message}</p>
        {hint !== '' && <p className="hint">{hint}</p>}
      </div>
      <button
        type="button"
        className="button button-quiet button-icon"
        aria-label={say('notices.dismiss', { message })}
        onClick={() => model.dismiss(key)}
      >
        <Glyph name="close" />
      </button>
    </div>
  );
}

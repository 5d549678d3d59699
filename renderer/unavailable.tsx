/** In the place of a page that cannot be shown: what is the matter, and what to do. */
import { Glyph } from './parts/glyph.tsx';

interface UnavailableProps {
  message: string;
  hint: string;
  action?: { label: string; act: () => void };
}

export function Unavailable({ message, hint, action }: UnavailableProps) {
  return (
    <div className="empty unavailable" role="alert">
      <span className="empty-mark">
        <Glyph name="alert" />
      </span>
      <h1>{message}</h1>
      {hint !== '' && <p>{hint}</p>}
      {action && (
        <button type="button" className="button" onClick={action.act}>
          {action.label}
        </button>
      )}
    </div>
  );
}

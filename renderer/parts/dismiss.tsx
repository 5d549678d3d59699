/** The button that takes away what was said, at its edge. */
import { Glyph } from './glyph.tsx';

export function DismissButton({ name, onDismiss }: { name: string; onDismiss: () => void }) {
  return (
    <button
      type="button"
      className="button button-quiet button-icon"
      aria-label={name}
      title={name}
      onClick={onDismiss}
    >
      <Glyph name="close" />
    </button>
  );
}

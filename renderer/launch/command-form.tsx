/** Runs a command line, for what has no desktop entry. */
import { useEffect, useId, useRef, useState } from 'react';
import { Glyph } from '../parts/glyph.tsx';
import { useText } from '../texts/use-text.ts';

interface CommandFormProps {
  /** What to begin with; the field takes the focus where it is not empty. */
  initial: string;
  isBusy: boolean;
  onRun: (line: string, terminal: boolean) => void;
}

export function CommandForm({ initial, isBusy, onRun }: CommandFormProps) {
  const say = useText();
  const id = useId();
  const field = useRef<HTMLInputElement>(null);
  const [line, setLine] = useState(initial);
  const [terminal, setTerminal] = useState(false);
  useEffect(() => {
    if (initial !== '') field.current?.focus();
  }, [initial]);

  return (
    <section className="section command" aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>{say('launch.command.title')}</h2>
      <p className="hint">{say('launch.command.text')}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (line.trim() !== '') onRun(line.trim(), terminal);
        }}
      >
        <div className="search">
          <Glyph name="terminal" />
          <input
            ref={field}
            className="mono"
            value={line}
            onChange={(event) => setLine(event.target.value)}
            aria-label={say('launch.command.label')}
            autoComplete="off"
            autoCapitalize="off"
            spellCheck={false}
            maxLength={10_000}
          />
        </div>
        <label className="check">
          <input type="checkbox" checked={terminal} onChange={(event) => setTerminal(event.target.checked)} />
          {say('launch.command.terminal')}
        </label>
        <button type="submit" className="button" disabled={isBusy || line.trim() === ''}>
          {say('launch.command.run')}
        </button>
      </form>
    </section>
  );
}

/** A passphrase, once or twice, which can be looked at. It is kept nowhere but in the fields. */
import { useEffect, useId, useRef, useState } from 'react';
import { type AppState, shortestPassphrase } from '../../main/ipc/view.ts';
import { Row } from '../settings/rows.tsx';
import { useText } from '../texts/use-text.ts';

export interface Typed {
  passphrase: string;
  repeated: string;
}

export const nothingTyped: Typed = { passphrase: '', repeated: '' };

/** What was wrong with one that was used. */
interface Problem {
  /** Of the attempt. */
  number: number;
  message: string;
}

/** Of the last attempt to do that, where it was the passphrase that was wrong. */
export function problemAtField(
  end: AppState['bundleEnd'],
  operation: 'export' | 'import',
): Problem | undefined {
  return end?.kind === 'failed' && end.isPassphrase && end.operation === operation ? end : undefined;
}

export function PassphraseRows({
  typed,
  isNew,
  problem,
  onChange,
}: {
  typed: Typed;
  /** Of a bundle that is not there yet: typed twice. */
  isNew: boolean;
  problem: Problem | undefined;
  onChange: (typed: Typed) => void;
}) {
  const say = useText();
  const id = useId();
  const [isShown, setShown] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const attempt = problem?.number;
  useEffect(() => {
    if (attempt !== undefined) field.current?.focus();
  }, [attempt]);
  const type = isShown ? 'text' : 'password';
  const differs = isNew && typed.repeated !== '' && typed.repeated !== typed.passphrase;
  const common = {
    className: 'passphrase',
    type,
    autoComplete: 'off',
    autoCapitalize: 'off',
    spellCheck: false,
    maxLength: 1000,
  } as const;

  return (
    <>
      <Row
        label={say('bundles.passphrase')}
        help={
          isNew
            ? say('bundles.passphrase.help', { count: shortestPassphrase })
            : say('bundles.passphrase.known')
        }
        htmlFor={id}
        helpId={`${id}-help`}
      >
        <input
          {...common}
          ref={field}
          id={id}
          value={typed.passphrase}
          aria-invalid={problem !== undefined && typed.passphrase === ''}
          aria-describedby={`${id}-wrong ${id}-help`}
          onChange={(event) => onChange({ ...typed, passphrase: event.target.value })}
        />
        <label className="check">
          <input type="checkbox" checked={isShown} onChange={(event) => setShown(event.target.checked)} />
          {say('bundles.passphrase.show')}
        </label>
        {/* The engine speaks English. */}
        <p id={`${id}-wrong`} className="wrong" role="alert" lang="en">
          {problem?.message}
        </p>
      </Row>
      {isNew && (
        <Row label={say('bundles.passphrase.again')} htmlFor={`${id}-again`}>
          <input
            {...common}
            id={`${id}-again`}
            value={typed.repeated}
            aria-invalid={differs}
            aria-describedby={`${id}-differs`}
            onChange={(event) => onChange({ ...typed, repeated: event.target.value })}
          />
          <p id={`${id}-differs`} className="wrong" role="alert">
            {differs ? say('bundles.passphrase.differs') : ''}
          </p>
        </Row>
      )}
    </>
  );
}

/** A passphrase, once or twice, which can be looked at. It is kept nowhere but in the fields. */
import { useId, useState } from 'react';
import { Row } from '../settings/rows.tsx';
import { useText } from '../texts/use-text.ts';

export interface Typed {
  passphrase: string;
  repeated: string;
}

export const nothingTyped: Typed = { passphrase: '', repeated: '' };

export function PassphraseRows({
  typed,
  isNew,
  onChange,
}: {
  typed: Typed;
  /** Of a bundle that is not there yet: typed twice. */
  isNew: boolean;
  onChange: (typed: Typed) => void;
}) {
  const say = useText();
  const id = useId();
  const [isShown, setShown] = useState(false);
  const type = isShown ? 'text' : 'password';
  const differs = isNew && typed.repeated !== '' && typed.repeated !== typed.passphrase;
  const common = {
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
        help={isNew ? say('bundles.passphrase.help') : say('bundles.passphrase.known')}
        htmlFor={id}
        helpId={`${id}-help`}
      >
        <input
          {...common}
          id={id}
          value={typed.passphrase}
          aria-describedby={`${id}-help`}
          onChange={(event) => onChange({ ...typed, passphrase: event.target.value })}
        />
        <label className="check">
          <input type="checkbox" checked={isShown} onChange={(event) => setShown(event.target.checked)} />
          {say('bundles.passphrase.show')}
        </label>
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

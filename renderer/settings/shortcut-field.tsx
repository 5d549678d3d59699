/** A field that takes a shortcut by its keys being pressed. */
import { type KeyboardEvent, useId, useState } from 'react';
import { useText } from '../texts/use-text.ts';
import { acceleratorOf } from './accelerator.ts';
import { Row } from './rows.tsx';

interface ShortcutFieldProps {
  value: string;
  /** Whether the shell can have shortcuts that work everywhere. */
  canBeHad: boolean;
  onChange: (accelerator: string) => void;
}

export function ShortcutField({ value, canBeHad, onChange }: ShortcutFieldProps) {
  const say = useText();
  const id = useId();
  const [isWrong, setWrong] = useState(false);

  function pressed(event: KeyboardEvent) {
    if (event.key === 'Tab' || event.key === 'Escape' || event.key === 'Enter') return;
    event.preventDefault();
    if (event.key === 'Backspace' || event.key === 'Delete') {
      setWrong(false);
      onChange('');
      return;
    }
    const accelerator = acceleratorOf(event);
    if (accelerator === undefined) return;
    setWrong(accelerator === '');
    if (accelerator !== '') onChange(accelerator);
  }

  return (
    <Row
      label={say('settings.shortcut')}
      help={say(canBeHad ? 'settings.shortcut.help' : 'settings.shortcut.cannot')}
      htmlFor={id}
      helpId={`${id}-help`}
    >
      <input
        id={id}
        className="shortcut"
        readOnly
        disabled={!canBeHad}
        value={value === '' ? say('settings.shortcut.none') : value.replaceAll('+', ' + ')}
        aria-describedby={`${id}-help ${id}-wrong`}
        onKeyDown={pressed}
      />
      <p id={`${id}-wrong`} className="wrong" role="alert">
        {isWrong ? say('settings.shortcut.wrong') : ''}
      </p>
    </Row>
  );
}

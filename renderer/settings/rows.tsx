/** The rows that settings are made of: what it is, what it means, and the control for it. */
import { type ReactNode, useEffect, useId, useState } from 'react';

export function Section({ title, help, children }: { title: string; help?: string; children: ReactNode }) {
  const id = useId();
  return (
    <section className="settings-section" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {help !== undefined && <p className="hint">{help}</p>}
      <div className="rows">{children}</div>
    </section>
  );
}

export interface Described {
  label: string;
  help?: string;
}

/** `htmlFor` names the control; without it the children name themselves. */
export function Row({
  label,
  help,
  htmlFor,
  helpId,
  children,
}: Described & { htmlFor?: string; helpId?: string; children: ReactNode }) {
  return (
    <div className="row">
      <div className="row-text">
        {htmlFor === undefined ? (
          <p className="row-label">{label}</p>
        ) : (
          <label htmlFor={htmlFor} className="row-label">
            {label}
          </label>
        )}
        {help !== undefined && (
          <p className="hint" id={helpId}>
            {help}
          </p>
        )}
      </div>
      <div className="row-control">{children}</div>
    </div>
  );
}

export function SwitchRow({
  label,
  help,
  isOn,
  onChange,
}: Described & { isOn: boolean; onChange: (isOn: boolean) => void }) {
  const id = useId();
  return (
    <Row label={label} {...(help === undefined ? {} : { help })} htmlFor={id} helpId={`${id}-help`}>
      <input
        id={id}
        type="checkbox"
        role="switch"
        aria-checked={isOn}
        className="switch"
        checked={isOn}
        aria-describedby={help === undefined ? undefined : `${id}-help`}
        onChange={(event) => onChange(event.target.checked)}
      />
    </Row>
  );
}

export function ChoiceRow<Value extends string>({
  label,
  help,
  value,
  choices,
  onChange,
}: Described & {
  value: Value;
  choices: { value: Value; label: string; lang?: string }[];
  onChange: (value: Value) => void;
}) {
  const id = useId();
  return (
    <Row label={label} {...(help === undefined ? {} : { help })} htmlFor={id} helpId={`${id}-help`}>
      <select
        id={id}
        value={value}
        aria-describedby={help === undefined ? undefined : `${id}-help`}
        onChange={(event) => {
          const chosen = choices.find((choice) => choice.value === event.target.value);
          if (chosen !== undefined) onChange(chosen.value);
        }}
      >
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value} lang={choice.lang}>
            {choice.label}
          </option>
        ))}
      </select>
    </Row>
  );
}

/** Saved when it is left or Enter is pressed, and only where it is a whole number within its bounds. */
export function NumberRow({
  id: givenId,
  label,
  help,
  unit,
  value,
  min,
  max,
  wrong,
  onChange,
}: Described & {
  id?: string;
  unit: string;
  value: number;
  min: number;
  max: number;
  wrong: string;
  onChange: (value: number) => void;
}) {
  const ownId = useId();
  const id = givenId ?? ownId;
  const [text, setText] = useState(String(value));
  useEffect(() => setText(String(value)), [value]);
  const number = Number(text);
  const isWrong = text.trim() === '' || !Number.isInteger(number) || number < min || number > max;

  const commit = () => {
    if (!isWrong && number !== value) onChange(number);
  };
  return (
    <Row label={label} {...(help === undefined ? {} : { help })} htmlFor={id} helpId={`${id}-help`}>
      <div className="number">
        <input
          id={id}
          type="number"
          inputMode="numeric"
          min={min}
          max={max}
          value={text}
          aria-invalid={isWrong}
          aria-describedby={`${id}-help ${id}-wrong`}
          onChange={(event) => setText(event.target.value)}
          onBlur={commit}
          onKeyDown={(event) => {
            if (event.key === 'Enter') commit();
          }}
        />
        <span aria-hidden="true">{unit}</span>
      </div>
      <p id={`${id}-wrong`} className="wrong" role="alert">
        {isWrong ? wrong : ''}
      </p>
    </Row>
  );
}

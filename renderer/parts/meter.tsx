/** A bar that fills, for progress and for disk space. */

interface MeterProps {
  role: 'progressbar' | 'meter';
  name: string;
  /** 0 to 1; undefined where not known, which a progress bar shows by moving. */
  share: number | undefined;
  /** What a screen reader says instead of a percentage. */
  text: string;
}

export function Meter({ role, name, share, text }: MeterProps) {
  const percent = share === undefined ? undefined : Math.round(Math.min(1, Math.max(0, share)) * 100);
  return (
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: both roles it is given have these
    <div
      className={percent === undefined ? 'bar bar-moving' : 'bar'}
      role={role}
      aria-label={name}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
      aria-valuetext={text}
    >
      <div className="bar-fill" style={percent === undefined ? undefined : { inlineSize: `${percent}%` }} />
    </div>
  );
}

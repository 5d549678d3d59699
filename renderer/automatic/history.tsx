/** What was put aside and woken, or would have been: when, why, and what it gained. */
import type { PolicyEntry } from '../../main/ipc/policy-view.ts';
import { Row, Section } from '../settings/rows.tsx';
import { useFigures, useText } from '../texts/use-text.ts';

/** As many as one looks through. */
const mostShown = 50;

export function History({ entries }: { entries: readonly PolicyEntry[] }) {
  const say = useText();
  return (
    <Section title={say('automatic.history')}>
      {entries.length === 0 && <Row label={say('automatic.history.none')}>{null}</Row>}
      {entries.slice(0, mostShown).map((entry) => (
        <Entry key={`${entry.at} ${entry.key} ${entry.what}`} entry={entry} />
      ))}
    </Section>
  );
}

function Entry({ entry }: { entry: PolicyEntry }) {
  const say = useText();
  const figures = useFigures();
  const { at, what, really, title, why, gainBytes, tookMs, reason } = entry;
  const did = say(really ? `automatic.did.${what}` : `automatic.would.${what}`, { title });
  const took = tookMs === undefined ? '' : say('automatic.took', { milliseconds: Math.round(tookMs) });
  return (
    <Row
      label={did}
      help={[figures.moment(at), say(`automatic.why.${why}`), took].filter(Boolean).join(' · ')}
    >
      <p className="meta" {...(reason === undefined ? {} : { lang: 'en' })}>
        {reason ?? (gainBytes === undefined ? '' : figures.bytes(gainBytes))}
      </p>
    </Row>
  );
}

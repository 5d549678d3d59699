/** Which bundle is brought in, and its passphrase. */
import { type FormEvent, useState } from 'react';
import type { Drive } from '../../main/ipc/view.ts';
import { useModel } from '../model.ts';
import { Section, SwitchRow } from '../settings/rows.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import type { End } from './bundles.tsx';
import { nothingTyped, PassphraseRows } from './passphrase.tsx';
import { TextRow } from './take-along.tsx';

/** One that is typed, in place of one's path. */
const elsewhere = '';

export function BringIn({
  drives,
  onEnd,
}: {
  drives: readonly Drive[] | undefined;
  onEnd: (end: End | undefined) => void;
}) {
  const model = useModel();
  const say = useText();
  const figures = useFigures();
  const [chosen, setChosen] = useState<string>();
  const [typedPath, setTypedPath] = useState('');
  const [typed, setTyped] = useState(nothingTyped);
  const [resume, setResume] = useState(true);

  const bundles = (drives ?? []).flatMap((drive) => drive.bundles.map((bundle) => ({ ...bundle, drive })));
  const bundle = chosen === undefined ? bundles[0] : bundles.find(({ path }) => path === chosen);
  const path = bundle?.path ?? typedPath.trim();
  const isReady = path !== '' && typed.passphrase !== '';

  async function read(event: FormEvent) {
    event.preventDefault();
    if (!isReady) return;
    onEnd(undefined);
    try {
      const result = await model.bridge.call('bundle.import', { path, passphrase: typed.passphrase, resume });
      setTyped(nothingTyped);
      onEnd({ kind: 'imported', result });
    } catch (error) {
      onEnd({ kind: 'failed', operation: 'import', error });
    }
  }

  return (
    <form className="bundle-form" onSubmit={(event) => void read(event)} aria-label={say('bundles.in')}>
      <Section title={say('bundles.in')} help={say('bundles.in.help')}>
        <fieldset className="drives">
          <legend className="visually-hidden">{say('bundles.in.which')}</legend>
          {bundles.map(({ path: each, name, changedAt, drive }) => (
            <label key={each} className="row pick">
              <input
                type="radio"
                name="bundle"
                checked={bundle?.path === each}
                onChange={() => setChosen(each)}
              />
              <span className="row-text">
                <span className="row-label">{name}</span>
                <span className="hint">{each}</span>
              </span>
              <span className="meta">
                {drive.name} · {figures.moment(changedAt)}
              </span>
            </label>
          ))}
          <label className="row pick">
            <input
              type="radio"
              name="bundle"
              checked={bundle === undefined}
              onChange={() => setChosen(elsewhere)}
            />
            <span className="row-text row-label">{say('bundles.elsewhere')}</span>
          </label>
        </fieldset>
        {bundle === undefined && (
          <TextRow
            label={say('bundles.in.path')}
            help={say('bundles.in.path.help')}
            value={typedPath}
            onChange={setTypedPath}
          />
        )}
        <PassphraseRows typed={typed} isNew={false} onChange={setTyped} />
        <SwitchRow label={say('bundles.in.resume')} isOn={resume} onChange={setResume} />
      </Section>
      <button type="submit" className="button button-primary" disabled={!isReady}>
        {say('bundles.read')}
      </button>
    </form>
  );
}

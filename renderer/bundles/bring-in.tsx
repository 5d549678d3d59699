/** Which bundle is brought in, and its passphrase. */
import { type FormEvent, useId, useState } from 'react';
import type { Drive } from '../../main/ipc/view.ts';
import { type Model, useAppState, useModel } from '../model.ts';
import { Section, SwitchRow } from '../settings/rows.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { nothingTyped, PassphraseRows, problemAtField } from './passphrase.tsx';
import { TextRow } from './take-along.tsx';

/** One that is typed, in place of one's path. */
const elsewhere = '';

/** What still has to be entered before it can be read, as the text that says so. */
type Missing = 'path' | 'passphrase';

export function BringIn({ drives }: { drives: readonly Drive[] | undefined }) {
  const { bundleEnd } = useAppState();
  const model = useModel();
  const say = useText();
  const figures = useFigures();
  const missingId = useId();
  const [chosen, setChosen] = useState<string>();
  const [typedPath, setTypedPath] = useState('');
  const [typed, setTyped] = useState(nothingTyped);
  const [resume, setResume] = useState(true);

  const bundles = (drives ?? []).flatMap((drive) => drive.bundles.map((bundle) => ({ ...bundle, drive })));
  const bundle = chosen === undefined ? bundles[0] : bundles.find(({ path }) => path === chosen);
  const path = bundle?.path ?? typedPath.trim();
  const missing: Missing | undefined = !path.startsWith('/')
    ? 'path'
    : typed.passphrase === ''
      ? 'passphrase'
      : undefined;

  async function read(event: FormEvent) {
    event.preventDefault();
    if (missing !== undefined) return;
    const { passphrase } = typed;
    setTyped(nothingTyped);
    try {
      const end = await model.bridge.call('bundle.import', { path, passphrase, resume });
      if (end.kind === 'imported' && resume) await openScreens(model, end.workloads);
    } catch (error) {
      model.fail(error);
    }
  }

  return (
    <form className="bundle-form" onSubmit={(event) => void read(event)} aria-label={say('bundles.in')}>
      <Section title={say('bundles.in')} help={say('bundles.in.help')}>
        <fieldset className="drives">
          <legend className="visually-hidden">{say('bundles.in.which')}</legend>
          {drives !== undefined && bundles.length === 0 && (
            <p className="row quiet">{say('bundles.in.none')}</p>
          )}
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
        <PassphraseRows
          typed={typed}
          isNew={false}
          problem={problemAtField(bundleEnd, 'import')}
          onChange={setTyped}
        />
        <SwitchRow label={say('bundles.in.resume')} isOn={resume} onChange={setResume} />
      </Section>
      <div className="bundle-do">
        <button
          type="submit"
          className="button button-primary"
          disabled={missing !== undefined}
          aria-describedby={missingId}
        >
          {say('bundles.read')}
        </button>
        <p id={missingId} className="hint">
          {missing !== undefined && say(`bundles.in.missing.${missing}`)}
        </p>
      </div>
    </form>
  );
}

/** Of what runs again, as a resume on its card does. In a plain browser one would replace this page. */
async function openScreens(model: Model, workloads: readonly { id: string }[]): Promise<void> {
  const { state } = model.known;
  if (state?.shell.kind === 'browser') return;
  for (const { id } of workloads) {
    const now = state?.workloads.find((each) => each.id === id);
    if (now?.kind === 'capsule' && now.state === 'running')
      await model.bridge.call('window.open', { kind: 'screen', workload: id });
  }
}

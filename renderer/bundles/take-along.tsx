/** What is taken along, where to, and under which passphrase. */
import { type FormEvent, useEffect, useId, useState } from 'react';
import {
  type BundleOnDrive,
  type Drive,
  shortestPassphrase,
  type WorkloadView,
} from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';
import { Row, Section, SwitchRow } from '../settings/rows.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { nothingTyped, PassphraseRows, problemAtField } from './passphrase.tsx';

const usualName = 'torpor-session';
/** A folder that is not on a drive, in place of one's path. */
const elsewhere = '';

const canGo = ({ state }: WorkloadView) =>
  state === 'running' || state === 'napping' || state === 'suspended';

/** What still has to be entered before it can be written, as the text that says so. */
type Missing = 'workloads' | 'name' | 'path' | 'passphrase' | 'short' | 'again';

export function TakeAlong({
  chosen: first,
  drives,
}: {
  chosen: string | undefined;
  drives: readonly Drive[] | undefined;
}) {
  const { workloads, bundleEnd } = useAppState();
  const model = useModel();
  const say = useText();
  const missingId = useId();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(first === undefined ? [] : [first]));
  const [place, setPlace] = useState<string>();
  const [name, setName] = useState(usualName);
  const [typedPath, setTypedPath] = useState('');
  const [typed, setTyped] = useState(nothingTyped);
  const [leaveRunning, setLeaveRunning] = useState(false);
  const [withEngine, setWithEngine] = useState(false);

  const offered = workloads.filter(canGo);
  const drive = chooseDrive(drives, place);
  const path = drive === undefined ? typedPath.trim() : `${drive.path}/${name.trim()}`;
  const known = useKnownBundle(path, drive);
  const isNew = known === undefined;
  const taken = offered.filter(({ id }) => chosen.has(id));

  const missing = ((): Missing | undefined => {
    if (taken.length === 0) return 'workloads';
    if (drive === undefined && !path.startsWith('/')) return 'path';
    if (drive !== undefined && !isName(name.trim())) return 'name';
    if (typed.passphrase === '') return 'passphrase';
    if (!isNew) return undefined;
    if (lengthOf(typed.passphrase) < shortestPassphrase) return 'short';
    return typed.passphrase === typed.repeated ? undefined : 'again';
  })();

  async function write(event: FormEvent) {
    event.preventDefault();
    if (missing !== undefined) return;
    const { passphrase } = typed;
    setTyped(nothingTyped);
    const request = { workloads: taken.map(({ id }) => id), path, passphrase, leaveRunning, withEngine };
    await model.bridge.call('bundle.export', request).catch((error) => model.fail(error));
  }

  return (
    <form className="bundle-form" onSubmit={(event) => void write(event)} aria-label={say('bundles.out')}>
      <Section title={say('bundles.out')} help={say('bundles.out.help')}>
        {offered.length === 0 && <p className="row quiet">{say('bundles.out.none')}</p>}
        {offered.map((workload) => (
          <WorkloadRow
            key={workload.id}
            workload={workload}
            isChosen={chosen.has(workload.id)}
            onChange={(isChosen) => {
              const others = [...chosen].filter((id) => id !== workload.id);
              setChosen(new Set(isChosen ? [...others, workload.id] : others));
            }}
          />
        ))}
      </Section>
      <Section title={say('bundles.to')}>
        <DriveRows drives={drives} value={drive?.path ?? elsewhere} onChange={setPlace} />
        {drive === undefined ? (
          <TextRow
            label={say('bundles.path')}
            help={say('bundles.path.help')}
            value={typedPath}
            onChange={setTypedPath}
          />
        ) : (
          <TextRow
            label={say('bundles.name')}
            help={say('bundles.name.help', { path })}
            value={name}
            onChange={setName}
          />
        )}
        {known !== undefined && (
          <p className="row quiet" role="status">
            {say('bundles.known')}
          </p>
        )}
        <PassphraseRows
          typed={typed}
          isNew={isNew}
          problem={problemAtField(bundleEnd, 'export')}
          onChange={setTyped}
        />
        <SwitchRow
          label={say('bundles.leaveRunning')}
          help={say('bundles.leaveRunning.help')}
          isOn={leaveRunning}
          onChange={setLeaveRunning}
        />
        <SwitchRow
          label={say('bundles.withEngine')}
          help={say('bundles.withEngine.help')}
          isOn={withEngine}
          onChange={setWithEngine}
        />
      </Section>
      <div className="bundle-do">
        <button
          type="submit"
          className="button button-primary"
          disabled={missing !== undefined}
          aria-describedby={missingId}
        >
          {isNew ? say('bundles.write') : say('bundles.update')}
        </button>
        <p id={missingId} className="hint">
          {missing !== undefined && say(`bundles.missing.${missing}`, { count: shortestPassphrase })}
        </p>
      </div>
    </form>
  );
}

/** Of a file or folder of its own, in the drive's folder. */
const isName = (name: string) => name !== '' && name !== '.' && name !== '..' && !name.includes('/');

/** As the engine counts characters. */
const lengthOf = (passphrase: string) => [...passphrase.normalize('NFC')].length;

/** The one that was chosen, and the first that can be written to until then. */
function chooseDrive(drives: readonly Drive[] | undefined, place: string | undefined): Drive | undefined {
  const usable = (drives ?? []).filter(({ readOnly }) => !readOnly);
  return place === undefined ? usable[0] : usable.find(({ path }) => path === place);
}

/** What is there already under that path. */
function useKnownBundle(path: string, drive: Drive | undefined): BundleOnDrive | undefined {
  const model = useModel();
  const [found, setFound] = useState<{ path: string; bundle: BundleOnDrive | undefined }>();
  const isTyped = drive === undefined;
  useEffect(() => {
    if (!isTyped || !path.startsWith('/')) return;
    let isWanted = true;
    model.bridge.call('bundle.look', path).then(
      ({ bundle }) => isWanted && setFound({ path, bundle }),
      (error) => model.fail(error),
    );
    return () => {
      isWanted = false;
    };
  }, [model, path, isTyped]);
  if (drive !== undefined) return drive.bundles.find((bundle) => bundle.path === path);
  return found?.path === path ? found.bundle : undefined;
}

function WorkloadRow({
  workload: { title, icon, state, memoryBytes, freedBytes },
  isChosen,
  onChange,
}: {
  workload: WorkloadView;
  isChosen: boolean;
  onChange: (isChosen: boolean) => void;
}) {
  const say = useText();
  const figures = useFigures();
  return (
    <label className="row pick">
      <input type="checkbox" checked={isChosen} onChange={(event) => onChange(event.target.checked)} />
      <img className="app-icon" src={icon} alt="" width="32" height="32" />
      <span className="row-text row-label">{title}</span>
      <span className="meta">
        {say(`state.${state}`)} · {figures.bytes(memoryBytes || freedBytes)}
      </span>
    </label>
  );
}

function DriveRows({
  drives,
  value,
  onChange,
}: {
  drives: readonly Drive[] | undefined;
  value: string;
  onChange: (path: string) => void;
}) {
  const say = useText();
  const figures = useFigures();
  return (
    <fieldset className="drives">
      <legend className="visually-hidden">{say('bundles.to')}</legend>
      {drives?.length === 0 && <p className="row quiet">{say('bundles.drives.none')}</p>}
      {drives?.map(({ path, name, freeBytes, fileSystem, readOnly }) => (
        <label key={path} className="row pick">
          <input
            type="radio"
            name="drive"
            disabled={readOnly}
            checked={value === path}
            onChange={() => onChange(path)}
          />
          <span className="row-text">
            <span className="row-label">{name}</span>
            <span className="hint">{path}</span>
          </span>
          <span className="meta">
            {readOnly
              ? say('bundles.drive.readOnly')
              : [say('bundles.drive.free', { bytes: figures.bytes(freeBytes) }), fileSystem]
                  .filter((each) => each !== '')
                  .join(' · ')}
          </span>
        </label>
      ))}
      <label className="row pick">
        <input type="radio" name="drive" checked={value === elsewhere} onChange={() => onChange(elsewhere)} />
        <span className="row-text row-label">{say('bundles.elsewhere')}</span>
      </label>
    </fieldset>
  );
}

export function TextRow({
  label,
  help,
  value,
  onChange,
}: {
  label: string;
  help: string;
  value: string;
  onChange: (value: string) => void;
}) {
  const id = useId();
  return (
    <Row label={label} help={help} htmlFor={id} helpId={`${id}-help`}>
      <input
        id={id}
        className="mono path"
        value={value}
        aria-describedby={`${id}-help`}
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        maxLength={4000}
        onChange={(event) => onChange(event.target.value)}
      />
    </Row>
  );
}

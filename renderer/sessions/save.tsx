/** What a session is to have, and what it is to be called. */
import { type FormEvent, useId, useState } from 'react';
import { longestSessionName, type SessionView, type WorkloadView } from '../../main/ipc/view.ts';
import { useAppState } from '../model.ts';
import { Dialog } from '../parts/dialog.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { useSessionsDoing } from './doing.tsx';

/** What can be chosen for a session. */
export const canBeSaved = ({ state, operation }: WorkloadView) =>
  (state === 'running' || state === 'napping') && operation === undefined;

export function SaveDialog({ onClose }: { onClose: () => void }) {
  const { workloads, sessions } = useAppState();
  const { save } = useSessionsDoing();
  const say = useText();
  const figures = useFigures();
  const formId = useId();
  const nameId = useId();
  const noteId = useId();
  const [name, setName] = useState(() => figures.moment(new Date().toISOString()));
  const [without, setWithout] = useState<ReadonlySet<string>>(new Set());

  const offered = workloads.filter(canBeSaved);
  const chosen = offered.filter(({ id }) => !without.has(id));
  const taken = takenBy(sessions, name.trim());
  const missing = name.trim() === '' ? 'name' : chosen.length === 0 ? 'workloads' : undefined;

  function submit(event: FormEvent) {
    event.preventDefault();
    if (missing !== undefined) return;
    onClose();
    void save({
      name: name.trim(),
      workloads: chosen.map(({ id }) => id),
      partial: false,
      replace: taken !== undefined,
    });
  }

  return (
    <Dialog
      title={say('sessions.dialog.title')}
      onClose={onClose}
      actions={
        <>
          <button type="button" className="button" onClick={onClose}>
            {say('dialog.cancel')}
          </button>
          <button
            type="submit"
            form={formId}
            className="button button-primary"
            disabled={missing !== undefined}
            aria-describedby={noteId}
          >
            {taken === undefined ? say('sessions.do') : say('sessions.replace')}
          </button>
        </>
      }
    >
      <p>{say('sessions.dialog.text')}</p>
      <form id={formId} className="session-form" onSubmit={submit}>
        <div className="session-name">
          <label htmlFor={nameId} className="row-label">
            {say('sessions.name')}
          </label>
          <input
            id={nameId}
            value={name}
            autoComplete="off"
            maxLength={longestSessionName}
            aria-describedby={noteId}
            onFocus={(event) => event.target.select()}
            onChange={(event) => setName(event.target.value)}
          />
        </div>
        <fieldset className="session-choice">
          <legend className="row-label">{say('sessions.applications')}</legend>
          <div className="rows">
            {offered.map((workload) => (
              <ChoiceRow
                key={workload.id}
                workload={workload}
                isChosen={!without.has(workload.id)}
                onChange={(isChosen) => {
                  const others = [...without].filter((id) => id !== workload.id);
                  setWithout(new Set(isChosen ? others : [...others, workload.id]));
                }}
              />
            ))}
          </div>
        </fieldset>
        <p id={noteId} className="hint" role="status">
          {missing !== undefined
            ? say(`sessions.missing.${missing}`)
            : taken !== undefined && say('sessions.taken', { names: taken })}
        </p>
      </form>
    </Dialog>
  );
}

/** The names of what would be found by the name no more; undefined where it is free. */
function takenBy(sessions: readonly SessionView[], name: string): string | undefined {
  const ready = sessions
    .filter((session) => session.name === name)
    .flatMap(({ members }) => members.filter(({ state }) => state === 'ready'));
  return ready.length === 0 ? undefined : ready.map(({ title }) => title).join(', ');
}

function ChoiceRow({
  workload: { title, icon, memoryBytes },
  isChosen,
  onChange,
}: {
  workload: WorkloadView;
  isChosen: boolean;
  onChange: (isChosen: boolean) => void;
}) {
  const figures = useFigures();
  return (
    <label className="row pick">
      <input type="checkbox" checked={isChosen} onChange={(event) => onChange(event.target.checked)} />
      <img className="app-icon" src={icon} alt="" width="28" height="28" />
      <span className="row-text row-label">{title}</span>
      <span className="meta">{figures.bytes(memoryBytes)}</span>
    </label>
  );
}

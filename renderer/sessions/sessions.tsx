/** Sessions: applications that were suspended at one instant under a name, and come back together. */
import { useState } from 'react';
import type { SessionView, WorkloadView } from '../../main/ipc/view.ts';
import { OperationProgress } from '../home/operation.tsx';
import { useAppState, useModel, useNow } from '../model.ts';
import { Confirm } from '../parts/dialog.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { MenuButton } from '../parts/menu.tsx';
import { Picture } from '../parts/picture.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { type Doing, useSessionsDoing } from './doing.tsx';
import { SessionEndNote } from './end.tsx';
import { canBeSaved, SaveDialog } from './save.tsx';
import { useSessionTitle } from './title.ts';

export function Sessions() {
  const { sessions, workloads } = useAppState();
  const { doing, end } = useSessionsDoing();
  const say = useText();
  const [isAsking, setAsking] = useState(false);
  const canSave = doing === undefined && workloads.some(canBeSaved);
  const saveButton = (
    <button
      type="button"
      className="button button-primary"
      disabled={!canSave}
      onClick={() => setAsking(true)}
    >
      <Glyph name="moon" />
      {say('sessions.save')}
    </button>
  );
  return (
    <>
      <header className="page-head">
        <h1>{say('sessions.title')}</h1>
        {sessions.length > 0 && <div className="page-actions">{saveButton}</div>}
      </header>
      {sessions.length > 0 && <p className="quiet">{say('sessions.text')}</p>}
      {doing !== undefined && <UnderWay doing={doing} />}
      <div aria-live="polite">{end !== undefined && <SessionEndNote end={end} />}</div>
      {sessions.length > 0 ? (
        <ul className="sessions">
          {sessions.map((session) => (
            <li key={session.id}>
              <SessionCard session={session} />
            </li>
          ))}
        </ul>
      ) : (
        doing === undefined && (
          <div className="empty">
            <span className="empty-mark">
              <Glyph name="sessions" />
            </span>
            <h2>{say('sessions.empty.title')}</h2>
            <p>{say('sessions.empty.text')}</p>
            {saveButton}
            {!canSave && <p className="hint">{say('sessions.empty.nothing')}</p>}
          </div>
        )
      )}
      {isAsking && <SaveDialog onClose={() => setAsking(false)} />}
    </>
  );
}

/** How far each of them is, as its card says it. */
function UnderWay({ doing: { kind, name, workloads: ids } }: { doing: Doing }) {
  const { workloads } = useAppState();
  const say = useText();
  const title = say(kind === 'save' ? 'sessions.saving' : 'sessions.restoring', { name });
  return (
    <section className="session-under-way" aria-label={title}>
      <h2>{title}</h2>
      <ul>
        {ids.map((id) => {
          const workload = workloads.find((each) => each.id === id);
          return workload && <Step key={id} workload={workload} isWaiting={isWaiting(kind, workload)} />;
        })}
      </ul>
    </section>
  );
}

const isWaiting = (kind: Doing['kind'], { state }: WorkloadView) =>
  state === (kind === 'save' ? 'running' : 'suspended');

function Step({ workload, isWaiting }: { workload: WorkloadView; isWaiting: boolean }) {
  const say = useText();
  const { title, icon, state, operation } = workload;
  return (
    <li className="session-step" data-workload={workload.id} data-state={state}>
      <img className="app-icon" src={icon} alt="" width="28" height="28" />
      <h3>{title}</h3>
      {operation === undefined ? (
        <p className="meta">
          {isWaiting ? (
            say('sessions.waiting')
          ) : (
            <span className={`state state-${state}`}>{say(`state.${state}`)}</span>
          )}
        </p>
      ) : (
        <OperationProgress workload={workload} operation={operation} />
      )}
    </li>
  );
}

function SessionCard({ session }: { session: SessionView }) {
  const { savedAt, reason, memoryBytes, members } = session;
  const name = useSessionTitle()(session);
  const say = useText();
  const figures = useFigures();
  const now = useNow();
  const { doing, restore } = useSessionsDoing();
  const ago = figures.ago(savedAt, now) ?? say('since.now');
  const canRestore = members.some(({ state }) => state === 'ready' || state === 'ended');
  const titleId = `session-${session.id}`;
  return (
    <article className="session" aria-labelledby={titleId} data-session={session.name}>
      <header className="session-head">
        <div className="session-head-text">
          <h2 id={titleId}>{name}</h2>
          <p className="meta">
            <time dateTime={savedAt} title={figures.moment(savedAt)}>
              {say('sessions.saved', { ago, reason: say(`sessions.reason.${reason}`) })}
            </time>
            {memoryBytes > 0 && <> · {say('sessions.memory', { bytes: figures.bytes(memoryBytes) })}</>}
          </p>
        </div>
        {canRestore && (
          <button
            type="button"
            className="button button-primary"
            aria-label={say('sessions.restore.name', { name })}
            disabled={doing !== undefined}
            onClick={() => void restore(session)}
          >
            <Glyph name="play" />
            {say('sessions.restore')}
          </button>
        )}
        <SessionMenu session={session} title={name} />
      </header>
      <ul className="session-members" aria-label={say('sessions.members.name', { name })}>
        {members.map((member) => (
          <li key={member.workload} className={`session-member session-member-${member.state}`}>
            <div className="thumbnail">
              <Picture address={member.thumbnail} alt="" />
            </div>
            <div className="session-member-text">
              <img className="app-icon" src={member.icon} alt="" width="24" height="24" />
              <div>
                <h3>{member.title}</h3>
                <p className="meta">{say(`sessions.member.${member.state}`)}</p>
              </div>
            </div>
          </li>
        ))}
      </ul>
    </article>
  );
}

function SessionMenu({ session, title: name }: { session: SessionView; title: string }) {
  const model = useModel();
  const say = useText();
  const [isAsking, setAsking] = useState(false);

  async function forget() {
    try {
      await model.bridge.call('session.forget', session.name);
      model.announce(say('sessions.forgotten', { name }));
    } catch (error) {
      model.fail(error);
    }
  }

  return (
    <>
      <MenuButton
        name={say('sessions.menu.name', { name })}
        items={[
          {
            kind: 'command',
            id: 'forget',
            label: say('sessions.forget'),
            glyph: 'trash',
            danger: true,
            act: () => setAsking(true),
          },
        ]}
      />
      {isAsking && (
        <Confirm
          title={say('sessions.forget.title', { name })}
          text={say('sessions.forget.text')}
          confirm={say('sessions.forget.confirm')}
          onConfirm={() => void forget()}
          onClose={() => setAsking(false)}
        />
      )}
    </>
  );
}

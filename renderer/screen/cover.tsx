/** What lies over the screen while there is nothing live to see: why, and what can be done about it. */
import { useCallback } from 'react';
import type { AppState, WorkloadView } from '../../main/ipc/view.ts';
import { OperationProgress } from '../home/operation.tsx';
import { useSuspending } from '../home/suspend.tsx';
import { useModel } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import type { ConnectionState } from './connection.ts';
import { useScreenText } from './texts/use-text.ts';

interface CoverProps {
  view: WorkloadView | undefined;
  state: AppState;
  connection: ConnectionState;
  onClose: () => void;
}

export function Cover({ view, state, connection, onClose }: CoverProps) {
  const say = useScreenText();
  const model = useModel();
  const { resume } = useSuspending();
  const openHome = () =>
    void model.bridge.call('window.open', { kind: 'home' }).catch((error) => model.fail(error));

  if (view === undefined) {
    if (state.engine.kind !== 'ready') return <EngineNote state={state} />;
    return (
      <Message title={say('screen.unknown')} text={say('screen.unknown.hint')}>
        <Home onHome={openHome} onClose={onClose} />
      </Message>
    );
  }

  const { title, operation } = view;
  if (operation !== undefined) {
    return (
      <Message
        title={say(operation.operation === 'suspend' ? 'screen.suspending' : 'screen.resuming', { title })}
      >
        <OperationProgress workload={view} operation={operation} />
      </Message>
    );
  }
  switch (view.state) {
    case 'suspending':
      return <Message title={say('screen.suspending', { title })} />;
    case 'resuming':
      return <Message title={say('screen.resuming', { title })} />;
    case 'napping':
      return <Napping view={view} />;
    case 'suspended':
      return (
        <Message title={say('screen.suspended', { title })} text={say('screen.suspended.text')}>
          <button
            type="button"
            className="button button-primary screen-resume"
            // biome-ignore lint/a11y/noAutofocus: it is what the window is about, and Enter is to resume it
            autoFocus
            onClick={() => void resume(view)}
          >
            <Glyph name="play" />
            {say('screen.resume')}
          </button>
        </Message>
      );
    case 'ended': {
      const { exit, note } = view;
      const how =
        exit === undefined
          ? say('screen.ended', { title })
          : 'code' in exit
            ? say('screen.ended.code', { title, code: exit.code })
            : say('screen.ended.signal', { title, signal: exit.signal });
      const next = view.snapshots > 0 ? say('screen.ended.snapshots') : say('screen.ended.nothing');
      return (
        <Message title={how} text={[note, next].filter(Boolean).join(' ')}>
          <Home onHome={openHome} onClose={onClose} />
        </Message>
      );
    }
    default:
      if (connection.kind === 'forbidden')
        return (
          <Message title={say('screen.forbidden', { title })} text={say('screen.forbidden.hint')}>
            <Home onHome={openHome} onClose={onClose} />
          </Message>
        );
      return connection.kind === 'live' ? null : (
        <p className="screen-connecting" role="status">
          {say('screen.connecting', { title })}
        </p>
      );
  }
}

/** Who goes to the window of what naps wants to use it. */
function Napping({ view: { id, title } }: { view: WorkloadView }) {
  const say = useScreenText();
  const model = useModel();
  const wake = useCallback(() => {
    model.bridge.call('workload.wake', id).catch((error) => model.fail(error));
  }, [model, id]);
  return (
    <Message title={say('screen.napping', { title })} text={say('screen.napping.text')}>
      <button type="button" className="button button-primary" onClick={wake}>
        <Glyph name="play" />
        {say('screen.wake')}
      </button>
    </Message>
  );
}

/** The screen itself does not go through the engine and stays alive without it. */
export function EngineNote({ state }: { state: AppState }) {
  const say = useScreenText();
  const { engine } = state;
  if (engine.kind === 'ready') return null;
  return (
    <div className="screen-note" role="status">
      <Glyph name="alert" />
      <div>
        <p>{engine.kind === 'unavailable' ? engine.message : say('screen.engine')}</p>
        <p className="hint">{engine.kind === 'unavailable' ? engine.hint : say('screen.engine.runs')}</p>
      </div>
    </div>
  );
}

function Message({
  title,
  text = '',
  children,
}: {
  title: string;
  text?: string;
  children?: React.ReactNode;
}) {
  return (
    <div className="screen-cover">
      <section className="screen-message" aria-live="polite">
        <h1>{title}</h1>
        {text !== '' && <p>{text}</p>}
        {children}
      </section>
    </div>
  );
}

function Home({ onHome, onClose }: { onHome: () => void; onClose: () => void }) {
  const say = useScreenText();
  return (
    <div className="screen-actions">
      <button type="button" className="button" onClick={onClose}>
        {say('screen.closeWindow')}
      </button>
      <button type="button" className="button button-primary" onClick={onHome}>
        {say('screen.home')}
      </button>
    </div>
  );
}

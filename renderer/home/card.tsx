/** One application: how it looks, how it is, and the one thing most wanted of it at a press. */
import { useState } from 'react';
import type { WorkloadView } from '../../main/ipc/view.ts';
import { useModel } from '../model.ts';
import { Confirm } from '../parts/dialog.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { MenuButton, type MenuItem } from '../parts/menu.tsx';
import { Picture } from '../parts/picture.tsx';
import { go } from '../place.ts';
import { useFigures, useText } from '../texts/use-text.ts';
import { IntervalLine } from './interval.tsx';
import { LoadingProgress, OperationProgress } from './operation.tsx';
import { Since } from './since.tsx';
import { useSuspending } from './suspend.tsx';

export function Card({ workload }: { workload: WorkloadView }) {
  const { id, title, icon, state, operation } = workload;
  const say = useText();
  const figures = useFigures();

  const facts = [
    workload.memoryBytes > 0 && say('card.held', { bytes: figures.bytes(workload.memoryBytes) }),
    workload.freedBytes > 0 && say('card.freed', { bytes: figures.bytes(workload.freedBytes) }),
    workload.bytesOnDisk > 0 && say('card.disk', { bytes: figures.bytes(workload.bytesOnDisk) }),
  ].filter((text) => text !== false);

  return (
    <article
      className={`card card-${state}`}
      aria-labelledby={`title-${id}`}
      data-workload={id}
      data-state={state}
    >
      <Thumbnail workload={workload} />
      <div className="card-body">
        <img className="app-icon" src={icon} alt="" width="36" height="36" />
        <div className="card-head">
          <h3 id={`title-${id}`}>{title}</h3>
          <p className="meta">
            <span className={`state state-${state}`}>{say(`state.${state}`)}</span>
            {' · '}
            <Since workload={workload} />
          </p>
        </div>
        <CardMenu workload={workload} />
      </div>
      {operation ? (
        <OperationProgress workload={workload} operation={operation} />
      ) : (
        <div className="card-foot">
          <p className="meta">{facts.join(' · ')}</p>
          <MainButton workload={workload} />
        </div>
      )}
      {operation === undefined && workload.loading !== undefined && (
        <LoadingProgress title={title} loading={workload.loading} />
      )}
      {workload.interval !== undefined && state !== 'ended' && <IntervalLine interval={workload.interval} />}
      {state === 'ended' && <EndNote workload={workload} />}
    </article>
  );
}

function Thumbnail({ workload: { id, title, kind, state, thumbnail } }: { workload: WorkloadView }) {
  const say = useText();
  const model = useModel();
  const picture = <Picture address={thumbnail} alt="" />;
  if (kind !== 'capsule' || state === 'ended') return <div className="thumbnail">{picture}</div>;
  return (
    <button type="button" className="thumbnail" onClick={() => void openScreen(model, id)}>
      <span className="visually-hidden">
        {say(state === 'suspended' ? 'card.look.name' : 'card.open.name', { title })}
      </span>
      {picture}
      {state === 'suspended' && (
        <span className="thumbnail-badge">
          <Glyph name="moon" />
        </span>
      )}
    </button>
  );
}

function MainButton({ workload }: { workload: WorkloadView }) {
  const say = useText();
  const { inspecting, start, resume } = useSuspending();
  const { id, title, state } = workload;
  const isInspecting = inspecting.has(id);
  if (state === 'napping') return <WakeButton workload={workload} />;
  if (state === 'running')
    return (
      <button
        type="button"
        className="button button-tonal"
        aria-label={isInspecting ? undefined : say('card.suspend.name', { title })}
        disabled={isInspecting}
        onClick={() => void start({ workload, keepRunning: false })}
      >
        <Glyph name="moon" />
        {isInspecting ? say('card.inspecting') : say('card.suspend')}
      </button>
    );
  if (state === 'suspended')
    return (
      <button
        type="button"
        className="button button-primary"
        aria-label={say('card.resume.name', { title })}
        onClick={() => void resume(workload)}
      >
        <Glyph name="play" />
        {say('card.resume')}
      </button>
    );
  return null;
}

function WakeButton({ workload: { id, title } }: { workload: WorkloadView }) {
  const say = useText();
  const model = useModel();
  const wake = async () => {
    try {
      await model.bridge.call('workload.wake', id);
      model.announce(say('said.awake', { title }));
    } catch (error) {
      model.fail(error);
    }
  };
  return (
    <button
      type="button"
      className="button button-primary"
      aria-label={say('card.wake.name', { title })}
      onClick={() => void wake()}
    >
      <Glyph name="play" />
      {say('card.wake')}
    </button>
  );
}

function CardMenu({ workload }: { workload: WorkloadView }) {
  const say = useText();
  const figures = useFigures();
  const model = useModel();
  const { start } = useSuspending();
  const [asking, setAsking] = useState<'end' | 'forget'>();
  const { id, title, kind, state, snapshots, operation } = workload;
  const runs = state === 'running' || state === 'napping';

  async function nap() {
    try {
      const { freedBytes } = await model.bridge.call('workload.nap', id);
      const message = say('said.napping', { title, bytes: figures.bytes(freedBytes) });
      model.notify({ level: 'info', message, hint: '' });
    } catch (error) {
      model.fail(error);
    }
  }
  async function end() {
    try {
      await model.bridge.call('workload.end', id);
      model.announce(say('said.ended', { title }));
    } catch (error) {
      model.fail(error);
    }
  }
  async function forget() {
    try {
      await model.bridge.call('workload.forget', id);
      model.announce(say('said.forgotten', { title }));
    } catch (error) {
      model.fail(error);
    }
  }

  const items: MenuItem[] = [
    ...((kind === 'capsule' || workload.hasTerminal) && state !== 'ended'
      ? [command('open', say('card.menu.open'), 'window', () => void openScreen(model, id))]
      : []),
    ...(runs
      ? [
          command(
            'snapshot',
            say('card.menu.snapshot'),
            'camera',
            () => void start({ workload, keepRunning: true }),
          ),
        ]
      : []),
    ...(state === 'running' && operation === undefined
      ? [command('nap', say('card.menu.nap'), 'pause', () => void nap())]
      : []),
    command('snapshots', say('card.menu.snapshots', { count: snapshots }), 'history', () =>
      go({ kind: 'snapshots', workload: id }),
    ),
    ...(runs || state === 'suspended'
      ? [command('bundle', say('card.menu.bundle'), 'bundles', () => go({ kind: 'bundles', workload: id }))]
      : []),
    ...(operation === undefined ? [{ kind: 'separator' as const, id: 'separator' }] : []),
    ...(runs && operation === undefined
      ? [{ ...command('end', say('card.menu.end'), 'end', () => setAsking('end')), danger: true }]
      : []),
    ...((state === 'suspended' || state === 'ended') && operation === undefined
      ? [{ ...command('forget', say('card.menu.forget'), 'trash', () => setAsking('forget')), danger: true }]
      : []),
  ];

  return (
    <>
      <MenuButton name={say('card.menu.name', { title })} items={items} />
      {asking === 'end' && (
        <Confirm
          title={say('end.title', { title })}
          text={say('end.text')}
          confirm={say('end.confirm')}
          onConfirm={() => void end()}
          onClose={() => setAsking(undefined)}
        />
      )}
      {asking === 'forget' && (
        <Confirm
          title={say('forget.title', { title })}
          text={say('forget.text', { count: snapshots, bytes: figures.bytes(workload.bytesOnDisk) })}
          confirm={say('forget.confirm')}
          onConfirm={() => void forget()}
          onClose={() => setAsking(undefined)}
        />
      )}
    </>
  );
}

const command = (
  id: string,
  label: string,
  glyph: 'window' | 'camera' | 'pause' | 'history' | 'bundles' | 'end' | 'trash',
  act: () => void,
) => ({ kind: 'command', id, label, glyph, act }) as const;

function EndNote({ workload: { note, exit } }: { workload: WorkloadView }) {
  const say = useText();
  if (note !== undefined && note !== '')
    return (
      <p className="card-note" lang="en">
        {note}
      </p>
    );
  if (exit === undefined || ('code' in exit && exit.code === 0)) return null;
  return (
    <p className="card-note">
      {'code' in exit
        ? say('card.exit.code', { code: exit.code })
        : say('card.exit.signal', { signal: exit.signal })}
    </p>
  );
}

async function openScreen(model: ReturnType<typeof useModel>, workload: string): Promise<void> {
  try {
    await model.bridge.call('window.open', { kind: 'screen', workload });
  } catch (error) {
    model.fail(error);
  }
}

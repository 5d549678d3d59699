/** Home: what runs and what is suspended, and what that saves. */
import { useState } from 'react';
import type { Notice, WorkloadView } from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import { MenuButton } from '../parts/menu.tsx';
import { hashOf } from '../place.ts';
import { useFigures, useText } from '../texts/use-text.ts';
import { Card } from './card.tsx';
import { Programs } from './programs.tsx';

const running: readonly string[] = ['running', 'napping', 'suspending'];
const suspended: readonly string[] = ['suspended', 'resuming'];

export function Home() {
  const { workloads, paused } = useAppState();
  const say = useText();
  return (
    <>
      <header className="page-head">
        <h1>{say('home.title')}</h1>
        {workloads.length > 0 && <HomeActions />}
      </header>
      {paused && (
        <p className="banner">
          <Glyph name="pause" />
          {say('home.paused')}
        </p>
      )}
      {workloads.length === 0 ? (
        <Empty />
      ) : (
        <>
          <Totals />
          <Section
            title={say('home.running')}
            workloads={workloads.filter(({ state }) => running.includes(state))}
          />
          <Section
            title={say('home.suspended')}
            workloads={workloads.filter(({ state }) => suspended.includes(state))}
          />
          <Section title={say('home.ended')} workloads={workloads.filter(({ state }) => state === 'ended')} />
        </>
      )}
      <Programs />
    </>
  );
}

function Totals() {
  const { workloads, freedBytes, diskBytes, diskFreeBytes } = useAppState();
  const say = useText();
  const figures = useFigures();
  const held = workloads.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
  return (
    <dl className="totals">
      <div className="total total-main">
        <dt>{say('home.freed')}</dt>
        <dd>{figures.bytes(freedBytes)}</dd>
      </div>
      <div className="total">
        <dt>{say('home.held')}</dt>
        <dd>{figures.bytes(held)}</dd>
      </div>
      <div className="total">
        <dt>{say('home.disk', { free: figures.bytes(diskFreeBytes) })}</dt>
        <dd>{figures.bytes(diskBytes)}</dd>
      </div>
    </dl>
  );
}

function HomeActions() {
  const { workloads, paused } = useAppState();
  const model = useModel();
  const say = useText();
  const [busy, setBusy] = useState<'suspend' | 'resume'>();
  const canSuspend = workloads.some(({ state }) => state === 'running' || state === 'napping');

  async function together(
    kind: 'suspend' | 'resume',
    work: () => Promise<{ message: string; failed: Notice[] }>,
  ) {
    setBusy(kind);
    try {
      const { message, failed } = await work();
      model.notify({ level: 'info', message, hint: '' });
      for (const notice of failed) model.notify(notice);
    } catch (error) {
      model.fail(error);
    }
    setBusy(undefined);
  }

  const suspendAll = () =>
    together('suspend', async () => {
      const { suspended, failed } = await model.bridge.call('session.suspendAll');
      return { message: say('home.suspendedAll', { count: suspended }), failed };
    });
  const resumeLast = () =>
    together('resume', async () => {
      const { resumed, failed } = await model.bridge.call('session.resumeLast');
      return { message: say('home.resumedLast', { count: resumed }), failed };
    });

  return (
    <div className="page-actions">
      <button
        type="button"
        className="button"
        disabled={!canSuspend || busy !== undefined}
        onClick={() => void suspendAll()}
      >
        <Glyph name="moon" />
        {busy === 'suspend' ? say('home.suspendingAll') : say('home.suspendAll')}
      </button>
      <MenuButton
        name={say('home.more')}
        items={[
          {
            kind: 'command',
            id: 'resume',
            label: say('home.resumeLast'),
            glyph: 'play',
            act: () => void resumeLast(),
          },
          {
            kind: 'command',
            id: 'pause',
            label: say(paused ? 'home.unpause' : 'home.pause'),
            glyph: 'pause',
            act: () =>
              void model.bridge.call('automation.pause', !paused).catch((error) => model.fail(error)),
          },
        ]}
      />
    </div>
  );
}

function Section({ title, workloads }: { title: string; workloads: WorkloadView[] }) {
  if (workloads.length === 0) return null;
  return (
    <section className="section">
      <h2>
        {title} <span className="count">{workloads.length}</span>
      </h2>
      <ul className="cards">
        {workloads.map((workload) => (
          <li key={workload.id}>
            <Card workload={workload} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Empty() {
  const say = useText();
  return (
    <div className="empty">
      <span className="empty-mark">
        <Glyph name="moon" />
      </span>
      <h2>{say('home.empty.title')}</h2>
      <p>{say('home.empty.text')}</p>
      <a className="button button-primary" href={hashOf({ kind: 'launch' })}>
        {say('home.empty.action')}
      </a>
    </div>
  );
}

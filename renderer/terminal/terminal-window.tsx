/** The window of a job: its terminal, live; what has become of it while it does not run. */
import './terminal.css';
import { useCallback, useEffect, useRef, useState } from 'react';
import type { WorkloadView } from '../../main/ipc/view.ts';
import { useKnown, useModel } from '../model.ts';
import { Cover, EngineNote } from '../screen/cover.tsx';
import { useScreenText } from '../screen/texts/use-text.ts';
import { usePageIcon, usePageTitle } from '../screen/use-page.ts';
import { LiveTerminal } from './live-terminal.ts';

export function TerminalWindow({ view }: { view: WorkloadView }) {
  const say = useScreenText();
  const model = useModel();
  const { state } = useKnown();
  const { id, title, icon } = view;
  const host = useRef<HTMLDivElement>(null);
  const live = useRef<LiveTerminal | undefined>(undefined);
  const [isLive, setLive] = useState(false);
  const [own, setOwn] = useState('');
  const label = say('screen.terminal', { title });
  const isWanted = view.state === 'running' && view.hasTerminal && view.operation === undefined;

  usePageTitle(own || title);
  usePageIcon(icon);

  useEffect(() => {
    if (host.current === null) return;
    const mine = new LiveTerminal({
      workload: id,
      host: host.current,
      label,
      connected: setLive,
      titled: setOwn,
    });
    live.current = mine;
    return () => {
      live.current = undefined;
      mine[Symbol.dispose]();
    };
  }, [id, label]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: with these there is a new one, which is to be told too
  useEffect(() => {
    if (live.current !== undefined) live.current.wanted = isWanted;
  }, [isWanted, id, label]);

  useEffect(() => {
    if (isLive) live.current?.focus();
  }, [isLive]);

  const close = useCallback(() => {
    void model.bridge.call('window.close').catch(() => {});
    window.close();
  }, [model]);

  return (
    <main className={isLive ? 'terminal' : 'terminal terminal-dim'}>
      <div ref={host} className="terminal-live" />
      {state !== undefined && !isLive && (
        <Cover
          view={view}
          state={state}
          connection={isWanted ? { kind: 'connecting' } : { kind: 'idle' }}
          onClose={close}
        />
      )}
      {state !== undefined && <EngineNote state={state} />}
    </main>
  );
}

/**
 * The window of an application in a capsule: its screen, live; the last picture of it while it is suspended or on its way
 * back; a bar that stays out of sight; and a question before it is closed.
 */
import { useCallback, useEffect, useRef, useState } from 'react';
import { useSuspending } from '../home/suspend.tsx';
import { useKnown, useModel } from '../model.ts';
import { Bar } from './bar.tsx';
import { ClipboardNote } from './clipboard-note.tsx';
import { type CloseAnswer, CloseQuestion } from './close-question.tsx';
import { Cover, EngineNote } from './cover.tsx';
import { sendCombination } from './keyboard.ts';
import { useScreenText } from './texts/use-text.ts';
import { useLastPicture } from './use-last-picture.ts';
import { useCloseGuard, usePageIcon, usePageTitle } from './use-page.ts';
import { useScreen } from './use-screen.ts';
import { useWindows } from './use-windows.ts';

export function ScreenWindow({ workload }: { workload: string }) {
  return <Window key={workload} workload={workload} />;
}

function Window({ workload }: { workload: string }) {
  const say = useScreenText();
  const model = useModel();
  const { start } = useSuspending();
  const { state } = useKnown();
  const view = state?.workloads.find(({ id }) => id === workload);
  const title = view?.title ?? '';
  const isRunning = view?.state === 'running' || view?.state === 'napping';

  const live = useRef<HTMLDivElement>(null);
  const still = useRef<HTMLDivElement>(null);
  const keys = useRef<HTMLTextAreaElement>(null);
  const [isBarOpen, setBarOpen] = useState(false);
  const [isAsking, setAsking] = useState(false);
  const [isClosing, setClosing] = useState(false);

  const chord = useCallback((event: KeyboardEvent) => {
    if (!(event.ctrlKey && event.altKey && event.code === 'Home')) return false;
    setBarOpen(true);
    // The bar is there after this has been drawn.
    requestAnimationFrame(() => document.querySelector<HTMLElement>('.screen-bar button')?.focus());
    return true;
  }, []);
  const isAwake = view?.state === 'running';
  const isWanted = isAwake && view.operation?.operation !== 'suspend';
  const screen = useScreen(workload, isWanted, { live, still, keys }, chord);
  const isLive = screen.state.kind === 'live';
  const windows = useWindows(workload, isAwake);
  const picture = useLastPicture(view);

  usePageTitle(windows.find(({ active }) => active)?.title || title || document.title);
  usePageIcon(view?.icon);
  const letClose = useCloseGuard(isRunning, () => setAsking(true));

  const close = useCallback(() => {
    letClose();
    void model.bridge.call('window.close').catch(() => {});
    window.close();
  }, [letClose, model]);

  // Whether its user is in it, nobody else can tell under Wayland.
  useEffect(() => {
    const tell = (isFocused: boolean) =>
      void model.bridge.call('screen.focused', workload, isFocused).catch(() => {});
    const came = () => tell(true);
    const left = () => tell(false);
    if (document.hasFocus()) came();
    window.addEventListener('focus', came);
    window.addEventListener('blur', left);
    return () => {
      window.removeEventListener('focus', came);
      window.removeEventListener('blur', left);
    };
  }, [model, workload]);

  // What was shown has the focus back whenever it is there again.
  useEffect(() => {
    if (isLive && !isAsking) keys.current?.focus({ preventScroll: true });
  }, [isLive, isAsking]);

  useEffect(() => {
    if (!isClosing || view?.state !== 'suspended') return;
    setClosing(false);
    close();
  }, [isClosing, view?.state, close]);

  const answered = async (answer: CloseAnswer) => {
    setAsking(false);
    if (answer === 'leave') close();
    else if (view === undefined) return;
    else if (answer === 'suspend') {
      setClosing(true);
      await start({ workload: view, keepRunning: false });
    } else {
      try {
        await model.bridge.call('workload.end', workload);
        close();
      } catch (error) {
        model.fail(error);
      }
    }
  };

  const hideBar = (backToApplication: boolean) => {
    setBarOpen(false);
    if (backToApplication) keys.current?.focus({ preventScroll: true });
  };
  const requestClose = () => {
    setBarOpen(false);
    if (isRunning) setAsking(true);
    else close();
  };

  return (
    <main className={isLive ? 'screen' : 'screen screen-dim'}>
      <textarea
        ref={keys}
        className="screen-keys"
        aria-label={say('screen.keys', { title })}
        tabIndex={isLive ? 0 : -1}
        autoComplete="off"
        autoCorrect="off"
        autoCapitalize="off"
        spellCheck={false}
      />
      <div ref={live} className="screen-live" role="img" aria-label={say('screen.of', { title })} />
      {picture !== undefined && !isLive && (
        <img className="screen-picture" src={picture} alt={say('screen.picture', { title })} />
      )}
      <div ref={still} className="screen-still" aria-hidden="true" />
      {state !== undefined && <Cover view={view} state={state} connection={screen.state} onClose={close} />}
      {state !== undefined && view !== undefined && <EngineNote state={state} />}
      {isLive && screen.trouble !== undefined && screen.clipboard !== undefined && (
        <ClipboardNote
          title={title}
          trouble={screen.trouble}
          clipboard={screen.clipboard}
          onDismiss={screen.dismissTrouble}
        />
      )}
      {view !== undefined && (
        <Bar
          view={view}
          isLive={isLive}
          isOpen={isBarOpen}
          windows={windows}
          onOpen={() => setBarOpen(true)}
          onHide={hideBar}
          onSend={(combination) => {
            if (screen.state.kind === 'live') sendCombination(screen.state.view, combination);
          }}
          onClose={requestClose}
        />
      )}
      {isAsking && (
        <CloseQuestion
          title={title}
          onAnswer={(answer) => void answered(answer)}
          onClose={() => setAsking(false)}
        />
      )}
    </main>
  );
}

/**
 * The bar of the window: out of sight until the pointer rests on its grip at the top edge, or the chord calls it. It takes no
 * key from the application while it is hidden.
 */
import { useEffect, useRef } from 'react';
import type { CapsuleWindow, WorkloadView } from '../../main/ipc/view.ts';
import { useSuspending } from '../home/suspend.tsx';
import { useModel } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import { MenuButton, type MenuItem } from '../parts/menu.tsx';
import { type Combination, combinations } from './keyboard.ts';
import type { ScreenMessageId } from './texts/catalogue.ts';
import { useScreenText } from './texts/use-text.ts';
import { useFullScreen } from './use-full-screen.ts';

/** A pointer on its way elsewhere does not open it. */
const dwellMs = 180;
const hideMs = 700;

interface BarProps {
  view: WorkloadView;
  isLive: boolean;
  isOpen: boolean;
  windows: readonly CapsuleWindow[];
  onOpen: () => void;
  onHide: (backToApplication: boolean) => void;
  onSend: (combination: Combination) => void;
  onClose: () => void;
}

export function Bar({ view, isLive, isOpen, windows, onOpen, onHide, onSend, onClose }: BarProps) {
  const say = useScreenText();
  const model = useModel();
  const { start } = useSuspending();
  const fullScreen = useFullScreen();
  const bar = useRef<HTMLElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const { id, title } = view;

  useEffect(() => () => clearTimeout(timer.current), []);

  const later = (act: () => void, milliseconds: number) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(act, milliseconds);
  };

  if (!isOpen) {
    return (
      <button
        type="button"
        className="screen-grip"
        aria-label={say('screen.bar.open')}
        title={say('screen.bar.open')}
        onPointerEnter={() => later(onOpen, dwellMs)}
        onPointerLeave={() => clearTimeout(timer.current)}
        onClick={onOpen}
      />
    );
  }

  const windowItems: MenuItem[] = windows.map((window) => ({
    kind: 'command',
    id: String(window.id),
    label: window.title || say('screen.windows.untitled'),
    ...(window.active ? { glyph: 'forward' as const } : { glyph: 'window' as const }),
    act: () => {
      onHide(true);
      void model.bridge.call('screen.activate', id, window.id).catch((error) => model.fail(error));
    },
  }));
  const keyItems: MenuItem[] = combinations.map((combination) => ({
    kind: 'command',
    id: combination.label,
    label: combination.label,
    act: () => {
      onHide(true);
      onSend(combination);
    },
  }));

  return (
    <nav
      ref={bar}
      className="screen-bar"
      aria-label={say('screen.bar', { title })}
      onPointerEnter={() => clearTimeout(timer.current)}
      onPointerLeave={() => {
        if (!bar.current?.contains(document.activeElement)) later(() => onHide(false), hideMs);
      }}
      onBlur={(event) => {
        const to = event.relatedTarget;
        if (to instanceof Node && !bar.current?.contains(to)) later(() => onHide(false), hideMs);
      }}
      onKeyDown={(event) => {
        if (event.key === 'Escape') onHide(true);
      }}
    >
      <img src={view.icon} alt="" width="20" height="20" />
      <p className="screen-bar-title">
        <strong>{title}</strong>
        <span>{say(stateText(view, isLive))}</span>
      </p>
      {isLive && (
        <>
          <MenuButton name={say('screen.windows')} label={say('screen.windows')} items={windowItems} />
          <MenuButton name={say('screen.send')} label={say('screen.send')} items={keyItems} />
          <Command
            glyph="moon"
            name={say('screen.suspend')}
            act={() => void start({ workload: view, keepRunning: false })}
          />
          <Command
            glyph="camera"
            name={say('screen.snapshot')}
            act={() => void start({ workload: view, keepRunning: true })}
          />
        </>
      )}
      <Command
        glyph="history"
        name={say('screen.snapshots')}
        act={() =>
          void model.bridge
            .call('window.open', { kind: 'snapshots', workload: id })
            .catch((error) => model.fail(error))
        }
      />
      <Command
        glyph="window"
        name={say(fullScreen.isOn ? 'screen.fullscreen.leave' : 'screen.fullscreen')}
        act={fullScreen.toggle}
      />
      <Command glyph="close" name={say('screen.close')} act={onClose} />
    </nav>
  );
}

function Command({
  glyph,
  name,
  act,
}: {
  glyph: Parameters<typeof Glyph>[0]['name'];
  name: string;
  act: () => void;
}) {
  return (
    <button
      type="button"
      className="button button-quiet button-icon"
      aria-label={name}
      title={name}
      onClick={act}
    >
      <Glyph name={glyph} />
    </button>
  );
}

function stateText(view: WorkloadView, isLive: boolean): Extract<ScreenMessageId, `screen.state.${string}`> {
  switch (view.state) {
    case 'suspended':
      return 'screen.state.suspended';
    case 'suspending':
      return 'screen.state.suspending';
    case 'resuming':
      return 'screen.state.resuming';
    case 'ended':
      return 'screen.state.ended';
    default:
      return isLive ? 'screen.state.live' : 'screen.state.connecting';
  }
}

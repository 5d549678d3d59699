/** Full screen, with the keys that the browser and the desktop otherwise take for themselves, where it can have them. */
import { useCallback, useSyncExternalStore } from 'react';

/** The Keyboard Lock API, which TypeScript does not know; not every browser has it. */
interface KeyboardLock {
  lock?(): Promise<void>;
  unlock?(): void;
}

const keyboard = () => (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;

export function useFullScreen(): { isOn: boolean; toggle: () => void } {
  const isOn = useSyncExternalStore(listen, () => document.fullscreenElement !== null);
  const toggle = useCallback(() => {
    void (document.fullscreenElement === null ? enter() : leave());
  }, []);
  return { isOn, toggle };
}

async function enter(): Promise<void> {
  await document.documentElement.requestFullscreen({ navigationUI: 'hide' });
  // Without it, full screen is still full screen.
  await keyboard()
    ?.lock?.()
    .catch(() => {});
}

async function leave(): Promise<void> {
  keyboard()?.unlock?.();
  await document.exitFullscreen();
}

function listen(changed: () => void): () => void {
  document.addEventListener('fullscreenchange', changed);
  return () => document.removeEventListener('fullscreenchange', changed);
}

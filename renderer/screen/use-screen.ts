/** The screen of an application in a component: connected while it runs, as large as the element it is in. */
import { type RefObject, useEffect, useRef, useState } from 'react';
import { type ClipboardTrouble, SharedClipboard } from './clipboard.ts';
import { type ConnectionState, ScreenConnection } from './connection.ts';
import { listenToKeyboard } from './keyboard.ts';

interface Elements {
  live: RefObject<HTMLDivElement | null>;
  still: RefObject<HTMLDivElement | null>;
  keys: RefObject<HTMLTextAreaElement | null>;
}

export interface Screen {
  state: ConnectionState;
  trouble: ClipboardTrouble | undefined;
  clipboard: SharedClipboard | undefined;
  dismissTrouble(): void;
}

/**
 * @param isWanted whether the application runs
 * @param chord a key that means something to the window itself; says whether it was one
 */
export function useScreen(
  workload: string,
  isWanted: boolean,
  { live, still, keys }: Elements,
  chord: (event: KeyboardEvent) => boolean,
): Screen {
  const [state, setState] = useState<ConnectionState>({ kind: 'idle' });
  const [trouble, setTrouble] = useState<ClipboardTrouble>();
  const [clipboard, setClipboard] = useState<SharedClipboard>();
  const connection = useRef<ScreenConnection | undefined>(undefined);
  const newestChord = useRef(chord);
  newestChord.current = chord;

  useEffect(() => {
    if (live.current === null || still.current === null || keys.current === null) return;
    const [host, field] = [live.current, keys.current];
    const shared = new SharedClipboard({
      send: (text) => mine.view?.clipboardPasteFrom(text),
      trouble: setTrouble,
    });
    const mine = new ScreenConnection({
      workload,
      live: host,
      still: still.current,
      keys: field,
      changed: setState,
      copied: (text) => void shared.copied(text),
      connected: () => void shared.connected(),
    });
    connection.current = mine;
    setClipboard(shared);
    const endKeyboard = listenToKeyboard(field, {
      receiver: () => mine.view,
      paste: (text) => shared.pasted(text),
      chord: (event) => newestChord.current(event),
    });
    // Tells the size in whole pixels of the device, also when the window goes to a screen that has others.
    const observer = new ResizeObserver(([entry]) => {
      const box = entry?.devicePixelContentBoxSize[0];
      if (box !== undefined) mine.fit({ width: box.inlineSize, height: box.blockSize }, devicePixelRatio);
    });
    observer.observe(host, { box: 'device-pixel-content-box' });
    return () => {
      connection.current = undefined;
      observer.disconnect();
      endKeyboard();
      mine[Symbol.dispose]();
      shared[Symbol.dispose]();
    };
  }, [workload, live, still, keys]);

  useEffect(() => {
    if (connection.current !== undefined) connection.current.wanted = isWanted;
  }, [isWanted]);

  return { state, trouble, clipboard, dismissTrouble: () => setTrouble(undefined) };
}

/** The screen of an application in a component: connected while it runs, as large as the element it is in. */
import { type RefObject, useEffect, useRef, useState } from 'react';
import { type ClipboardTrouble, SharedClipboard } from './clipboard.ts';
import { type ConnectionState, ScreenConnection } from './connection.ts';
import { listenToKeyboard } from './keyboard.ts';
import { devicePixels, type Size } from './size.ts';

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
    const endFit = fitToElement(host, mine);
    return () => {
      connection.current = undefined;
      endFit();
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

/** Tells the size of the element in pixels of the device, also when the window goes to a screen that has others. */
function fitToElement(element: HTMLElement, connection: ScreenConnection): () => void {
  const ended = new AbortController();
  let exact: Size | undefined;
  const tell = () => {
    const box = { width: element.clientWidth, height: element.clientHeight };
    connection.fit(devicePixels(box, exact, devicePixelRatio), devicePixelRatio);
  };
  const observer = new ResizeObserver(([entry]) => {
    const size = entry?.devicePixelContentBoxSize?.[0];
    exact = size && { width: size.inlineSize, height: size.blockSize };
    tell();
  });
  observer.observe(element, { box: 'device-pixel-content-box' });
  const awaitAnotherRatio = () => {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    query.addEventListener(
      'change',
      () => {
        tell();
        awaitAnotherRatio();
      },
      { once: true, signal: ended.signal },
    );
  };
  awaitAnotherRatio();
  return () => {
    observer.disconnect();
    ended.abort();
  };
}

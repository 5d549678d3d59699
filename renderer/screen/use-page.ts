/** The page as the window of an application: its title and icon, and the question before it is closed. */
import { useCallback, useEffect, useRef } from 'react';

export function usePageTitle(title: string): void {
  useEffect(() => {
    document.title = title;
  }, [title]);
}

/** Shows an icon for as long as the component is there. */
export function usePageIcon(address: string | undefined): void {
  useEffect(() => {
    if (address === undefined) return;
    const found = document.querySelector<HTMLLinkElement>('link[rel~="icon"]');
    const link = found ?? document.head.appendChild(document.createElement('link'));
    const before = link.getAttribute('href');
    link.rel = 'icon';
    link.href = address;
    return () => {
      if (found === null) link.remove();
      else if (before !== null) link.setAttribute('href', before);
    };
  }, [address]);
}

/**
 * A page cannot ask a question of its own before it is closed; it can only keep itself open, which Electron does without a
 * word and a browser after a word of its own. If it is kept open, the question is asked then.
 * @returns a function to call when it may close
 */
export function useCloseGuard(isGuarded: boolean, ask: () => void): () => void {
  const isLeaving = useRef(false);
  const newestAsk = useRef(ask);
  newestAsk.current = ask;

  useEffect(() => {
    if (!isGuarded) return;
    const keepOpen = (event: BeforeUnloadEvent) => {
      if (isLeaving.current) return;
      event.preventDefault();
      // Runs only if the page is still there afterwards.
      setTimeout(() => newestAsk.current(), 0);
    };
    addEventListener('beforeunload', keepOpen);
    return () => removeEventListener('beforeunload', keepOpen);
  }, [isGuarded]);

  return useCallback(() => {
    isLeaving.current = true;
  }, []);
}

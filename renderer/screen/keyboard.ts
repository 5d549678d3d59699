/**
 * Keys and text for an application. Key presses go to it one by one (noVNC does that); what is composed - by dead keys, a
 * compose key or an input method - is taken when it is finished, and typed character by character. Pasting is held back
 * for the moment that it takes to have the clipboard.
 */
import { keys, keysymOfCharacter } from './keysyms.ts';

export interface KeyReceiver {
  sendKey(keysym: number, code: string, down?: boolean): void;
  releaseKeys(): void;
}

export interface KeyboardOptions {
  receiver(): KeyReceiver | undefined;
  /** The user pastes this text; it has to be the application's clipboard before the key that pastes arrives. */
  paste(text: string): void;
  /** Keys that mean something to the window itself. @returns whether this was one */
  chord(event: KeyboardEvent): boolean;
}

/** The browser pastes in a later turn than that of the key press, and not at all where there is nothing to paste. */
const pasteLimitMs = 150;

/** Listens on the text field that has the focus while the application is used. @returns a function that ends it */
export function listenToKeyboard(field: HTMLTextAreaElement, options: KeyboardOptions): () => void {
  const ended = new AbortController();
  const listen = { capture: true, signal: ended.signal } as const;
  /** Keys whose press was not passed on, so that their release is not either. */
  const kept = new Set<string>();
  /** The key of a paste whose text has not come yet. */
  let pasting: { keysym: number; code: string } | undefined;

  const keep = (event: KeyboardEvent) => {
    kept.add(event.code);
    event.stopImmediatePropagation();
  };

  const finishPaste = () => {
    if (pasting === undefined) return;
    const { keysym, code } = pasting;
    pasting = undefined;
    options.receiver()?.sendKey(keysym, code);
  };

  field.addEventListener(
    'keydown',
    (event) => {
      if (options.chord(event)) {
        event.preventDefault();
        keep(event);
      } else if (isComposing(event)) {
        keep(event);
      } else if (isPaste(event)) {
        // Left to the browser, which then gives the clipboard without asking for a permission.
        const keysym = event.code === 'Insert' ? 0xff63 : (keysymOfCharacter(event.key) ?? 0x76);
        pasting = { keysym, code: event.code };
        keep(event);
        setTimeout(finishPaste, pasteLimitMs);
      } else {
        kept.delete(event.code);
      }
    },
    listen,
  );
  field.addEventListener(
    'keyup',
    (event) => {
      if (kept.delete(event.code)) event.stopImmediatePropagation();
    },
    listen,
  );
  field.addEventListener(
    'paste',
    (event) => {
      event.preventDefault();
      options.paste(event.clipboardData?.getData('text/plain') ?? '');
      finishPaste();
    },
    listen,
  );
  const type = (text: string) => {
    for (const character of text) {
      const keysym = keysymOfCharacter(character);
      if (keysym !== undefined) options.receiver()?.sendKey(keysym, '');
    }
  };
  field.addEventListener(
    'compositionend',
    (event) => {
      type(event.data);
      field.value = '';
    },
    listen,
  );
  field.addEventListener(
    'input',
    (event) => {
      const { isComposing, inputType, data } = event as InputEvent;
      if (isComposing || inputType === 'insertCompositionText') return;
      if (data !== null) type(data);
      field.value = '';
    },
    listen,
  );
  field.addEventListener('blur', () => options.receiver()?.releaseKeys(), listen);
  return () => ended.abort();
}

/** The key is a part of a text that is still being composed. */
function isComposing(event: KeyboardEvent): boolean {
  const processedByInputMethod = 229;
  return (
    event.isComposing ||
    event.keyCode === processedByInputMethod ||
    event.key === 'Dead' ||
    event.key === 'Compose' ||
    event.key === 'Process'
  );
}

function isPaste(event: KeyboardEvent): boolean {
  if (event.altKey || event.metaKey) return false;
  if (event.ctrlKey) return event.code === 'KeyV' || event.key.toLowerCase() === 'v';
  return event.shiftKey && event.code === 'Insert';
}

/** Combinations that the browser or the desktop would take for itself, for the menu. */
export const combinations = [
  { label: 'Ctrl+W', keys: ['ControlLeft', 'w'] },
  { label: 'Ctrl+T', keys: ['ControlLeft', 't'] },
  { label: 'Ctrl+N', keys: ['ControlLeft', 'n'] },
  { label: 'Ctrl+Shift+T', keys: ['ControlLeft', 'ShiftLeft', 'T'] },
  { label: 'Alt+F4', keys: ['AltLeft', 'F4'] },
  { label: 'Alt+Tab', keys: ['AltLeft', 'Tab'] },
  { label: 'F11', keys: ['F11'] },
  { label: 'Ctrl+Alt+Delete', keys: ['ControlLeft', 'AltLeft', 'Delete'] },
  { label: 'Print', keys: ['PrintScreen'] },
  { label: 'Super', keys: ['MetaLeft'] },
] as const;

export type Combination = (typeof combinations)[number];

/** Presses the keys in order and lets them go in reverse. */
export function sendCombination(receiver: KeyReceiver, combination: Combination): void {
  const pressed = combination.keys.map((name) =>
    name in keys ? keys[name as keyof typeof keys] : (keysymOfCharacter(name) ?? 0),
  );
  for (const keysym of pressed) receiver.sendKey(keysym, '', true);
  for (const keysym of pressed.toReversed()) receiver.sendKey(keysym, '', false);
}

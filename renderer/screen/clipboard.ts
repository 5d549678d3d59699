/**
 * One clipboard for the desktop and the application. What the application copies goes to the desktop's; what is on the
 * desktop's goes to the application when its window gets the focus, as far as the browser allows that without asking.
 * A paste by the keyboard needs no permission: see `keyboard.ts`.
 */

export type ClipboardTrouble =
  /** Reading it would make the browser ask; a click may do that. */
  | { kind: 'read-asks' }
  | { kind: 'read-denied' }
  /** The application has copied this, but it could not be given to the desktop without a click. */
  | { kind: 'write-refused'; text: string };

export interface ClipboardOptions {
  send(text: string): void;
  trouble(trouble: ClipboardTrouble | undefined): void;
}

export class SharedClipboard implements Disposable {
  readonly #options: ClipboardOptions;
  readonly #ended = new AbortController();
  /** What both sides have, as far as known. */
  #shared: string | undefined;
  /** Copied by the application while another window had the focus; only the one in front may write. */
  #waiting: string | undefined;

  constructor(options: ClipboardOptions) {
    this.#options = options;
    window.addEventListener('focus', () => void this.#focused(), { signal: this.#ended.signal });
  }

  /** A new connection: the application's side knows nothing. */
  async connected(): Promise<void> {
    this.#shared = undefined;
    if (document.hasFocus()) await this.#readQuietly();
  }

  /** The application has copied this. */
  async copied(text: string): Promise<void> {
    if (text === '' || text === this.#shared) return;
    this.#shared = text;
    await this.#write(text);
  }

  /** The user pastes this. */
  pasted(text: string): void {
    if (text === '' || text === this.#shared) return;
    this.#shared = text;
    this.#options.send(text);
  }

  /** After a click: the browser may ask. */
  async allow(): Promise<void> {
    try {
      this.pasted(await navigator.clipboard.readText());
      this.#options.trouble(undefined);
    } catch {
      this.#options.trouble({ kind: 'read-denied' });
    }
  }

  /** After a click. */
  async writeAgain(text: string): Promise<void> {
    await this.#write(text);
  }

  async #write(text: string): Promise<void> {
    if (!document.hasFocus()) {
      this.#waiting = text;
      return;
    }
    this.#waiting = undefined;
    try {
      await navigator.clipboard.writeText(text);
      this.#options.trouble(undefined);
    } catch {
      this.#options.trouble({ kind: 'write-refused', text });
    }
  }

  async #focused(): Promise<void> {
    if (this.#waiting === undefined) await this.#readQuietly();
    else await this.#write(this.#waiting);
  }

  async #readQuietly(): Promise<void> {
    const state = await readPermission();
    if (state === 'granted') {
      const text = await navigator.clipboard.readText().catch(() => '');
      this.pasted(text);
    } else if (state === 'prompt') {
      this.#options.trouble({ kind: 'read-asks' });
    }
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
  }
}

async function readPermission(): Promise<PermissionState> {
  try {
    // Not in the list of names that TypeScript knows.
    const status = await navigator.permissions.query({ name: 'clipboard-read' as PermissionName });
    return status.state;
  } catch {
    return 'denied';
  }
}

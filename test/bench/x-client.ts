/**
 * A client of an X server, in this process, by its own libraries: presses keys as a keyboard would (XTEST) and knows the
 * moment at which something is drawn (DAMAGE).
 */
import koffi from 'koffi';

const xlib = koffi.load('libX11.so.6');
const xtest = koffi.load('libXtst.so.6');
const xdamage = koffi.load('libXdamage.so.1');

const openDisplay = xlib.func('void *XOpenDisplay(const char *name)');
const closeDisplay = xlib.func('int XCloseDisplay(void *display)');
const rootWindow = xlib.func('unsigned long XDefaultRootWindow(void *display)');
const keysymToKeycode = xlib.func('unsigned char XKeysymToKeycode(void *display, unsigned long keysym)');
const flush = xlib.func('int XFlush(void *display)');
const pending = xlib.func('int XPending(void *display)');
const nextEvent = xlib.func('int XNextEvent(void *display, void *event)');
const fakeKey = xtest.func(
  'int XTestFakeKeyEvent(void *display, unsigned int keycode, int isPress, unsigned long delay)',
);
const queryDamage = xdamage.func(
  'int XDamageQueryExtension(void *display, _Out_ int *event, _Out_ int *error)',
);
const createDamage = xdamage.func(
  'unsigned long XDamageCreate(void *display, unsigned long drawable, int level)',
);
const subtractDamage = xdamage.func(
  'void XDamageSubtract(void *display, unsigned long damage, unsigned long repair, unsigned long parts)',
);

/** Told once until it is subtracted. */
const reportNonEmpty = 3;
const sizeOfEvent = 192;

export class XClient implements Disposable {
  readonly #display: unknown;
  readonly #damage: number | bigint;
  readonly #damageEvent: number;
  readonly #event = Buffer.alloc(sizeOfEvent);

  /** @throws Error where there is no such server, or one without the extension */
  constructor(display: string) {
    const opened: unknown = openDisplay(display);
    this.#display = opened;
    if (opened === null) throw new Error(`the X server ${display} does not answer`);
    const event: [number] = [0];
    const error: [number] = [0];
    if (queryDamage(opened, event, error) === 0)
      throw new Error(`the X server ${display} has no DAMAGE extension`);
    this.#damageEvent = event[0];
    this.#damage = createDamage(opened, rootWindow(opened), reportNonEmpty);
  }

  /** Forgets what was drawn until now. */
  settle(): void {
    subtractDamage(this.#display, this.#damage, 0, 0);
    while (pending(this.#display) > 0) nextEvent(this.#display, this.#event);
  }

  press(keysym: number): void {
    const keycode = keysymToKeycode(this.#display, keysym);
    fakeKey(this.#display, keycode, 1, 0);
    fakeKey(this.#display, keycode, 0, 0);
    flush(this.#display);
  }

  /** Waits, and lets nothing else run meanwhile, until something is drawn. @returns when, or undefined when it is too late */
  awaitDrawing(limitMs: number): number | undefined {
    for (const end = performance.now() + limitMs; performance.now() < end; ) {
      if (pending(this.#display) === 0) continue;
      nextEvent(this.#display, this.#event);
      if (this.#event.readInt32LE(0) !== this.#damageEvent) continue;
      const now = performance.now();
      subtractDamage(this.#display, this.#damage, 0, 0);
      flush(this.#display);
      return now;
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    closeDisplay(this.#display);
  }
}

/**
 * noVNC's view of a screen, made to fit a window of an application: one pixel of the application's is one pixel of the
 * device, the pointer is exact to it, the window's size is the application's, and it tells when a whole picture has been
 * drawn. All that is not noVNC's public interface is used here and nowhere else; its version is pinned.
 */
import RFB, { type RawChannel } from '@novnc/novnc';
import { isOnEveryLayout, keys } from './keysyms.ts';
import { type Size, screenSizeFor } from './size.ts';
import { WheelSteps } from './wheel.ts';

/** RFC 6143, section 7.7, and the community's (rfbproto). */
const encoding = { raw: 0, copyRect: 1, tight: 7 } as const;
const pseudoEncoding = {
  desktopSize: -223,
  lastRect: -224,
  cursor: -239,
  qemuExtendedKey: -258,
  ledState: -261,
  desktopName: -307,
  extendedDesktopSize: -308,
  extendedMouseButtons: -316,
  compression1: -255,
  vmwareCursor: 0x574d5664,
  extendedClipboard: 0xc0a1e5ce | 0,
} as const;

/** Buttons of a pointer event, in the order of its bits, as RFB's bits. */
const buttonBits = [1 << 0, 1 << 2, 1 << 1];
const wheelBits = { up: 1 << 3, down: 1 << 4, left: 1 << 5, right: 1 << 6 } as const;

export interface LiveViewEvents {
  /** The first whole picture since it was connected or has got another size is on the canvas. */
  whole(): void;
  /** Anything new is on the canvas. */
  drawn(): void;
}

export class LiveView extends RFB {
  readonly #events: LiveViewEvents;
  readonly #wheel = new WheelSteps();
  readonly #field: HTMLTextAreaElement;
  #wanted: Size | undefined;
  #ratio: number;
  /** Pixels that have come since it was connected or has got another size. */
  #pixels = 0;
  #isWhole = false;
  #buttons = 0;
  #hasSentKey = false;
  #isUsed = false;

  /** @param field has the keyboard's focus in place of the canvas, because text can only be composed in a text field */
  constructor(host: HTMLElement, channel: RawChannel, field: HTMLTextAreaElement, events: LiveViewEvents) {
    super(host, channel, { shared: true });
    this.#events = events;
    this.#field = field;
    this.#ratio = devicePixelRatio;
    this._keyboard._target = field;
    this._screen.style.overflow = 'hidden';
    this._screen.style.background = 'transparent';
    this._canvas.style.margin = '0';
    this._canvas.style.flex = 'none';
    this._canvas.style.alignSelf = 'flex-start';
    this._canvas.removeAttribute('tabindex');
    this._canvas.style.touchAction = 'none';
    this.resizeSession = true;
    this._canvas.addEventListener('pointerdown', (event) => this.#press(event));
    this._canvas.addEventListener('pointermove', (event) => this.#move(event));
    this._canvas.addEventListener('pointerup', (event) => this.#move(event));
    this._canvas.addEventListener('pointercancel', (event) => this.#release(event));
  }

  get canvas(): HTMLCanvasElement {
    return this._canvas;
  }

  /** In pixels of the application's. */
  get size(): Size {
    return { width: this._fbWidth, height: this._fbHeight };
  }

  /** The user has pressed something in it. */
  get isUsed(): boolean {
    return this.#isUsed;
  }

  /** All of it has been drawn, at the size that the window asks for. */
  get isFitting(): boolean {
    const wanted = this.#wanted;
    return (
      this.#isWhole &&
      (wanted === undefined || (wanted.width === this._fbWidth && wanted.height === this._fbHeight))
    );
  }

  /** The window has such a size in pixels of the device. @param ratio pixels of the device a CSS pixel */
  fit(box: Size, ratio: number): void {
    this.#wanted = screenSizeFor(box) ?? this.#wanted;
    this.#ratio = ratio;
    this._updateScale();
    this._refreshCursor();
    this._requestRemoteResize();
  }

  /** Keys that are held are let go, such as when another window gets the focus. */
  releaseKeys(): void {
    this._keyboard._allKeysUp();
  }

  /**
   * Xvnc makes keys for characters that its layout has not. Before the first key of its life the application would not
   * know of that, and miss the character; a touch of Shift is a first key that does nothing.
   */
  override sendKey(keysym: number, code: string, down?: boolean): void {
    this.#isUsed = true;
    if (!this.#hasSentKey && this._rfbConnectionState === 'connected') {
      this.#hasSentKey = true;
      if (!isOnEveryLayout(keysym)) super.sendKey(keys.ShiftLeft, 'ShiftLeft');
    }
    super.sendKey(keysym, code, down);
  }

  override focus(options?: FocusOptions): void {
    this.#field.focus({ preventScroll: true, ...options });
  }

  // ---- size ----

  protected override _screenSize(): { w: number; h: number } {
    const { width, height } = this.#wanted ?? this.size;
    return { w: width, h: height };
  }

  /** Ours is told by `fit`. */
  protected override _handleResize(): void {}
  protected override _fixScrollbars(): void {}

  protected override _updateScale(): void {
    this._display.scale = 1 / this.#ratio;
  }

  protected override _resize(width: number, height: number): void {
    if (width !== this._fbWidth || height !== this._fbHeight) {
      this.#pixels = 0;
      this.#isWhole = false;
    }
    super._resize(width, height);
  }

  // ---- pictures ----

  /**
   * Exact ones only: no JPEG. Tight with little compression is quicker than raw even on this machine, where each byte is
   * copied four times on its way. Without fences the server cannot measure the way and hold pictures back, and each picture
   * is asked for when the last is drawn; that draws a third more pictures of a scrolling text.
   */
  protected override _sendEncodings(): void {
    RFB.messages.clientEncodings(this._sock, [
      encoding.copyRect,
      encoding.tight,
      encoding.raw,
      pseudoEncoding.compression1,
      pseudoEncoding.desktopSize,
      pseudoEncoding.lastRect,
      pseudoEncoding.qemuExtendedKey,
      pseudoEncoding.ledState,
      pseudoEncoding.extendedDesktopSize,
      pseudoEncoding.desktopName,
      pseudoEncoding.extendedClipboard,
      pseudoEncoding.extendedMouseButtons,
      pseudoEncoding.vmwareCursor,
      pseudoEncoding.cursor,
    ]);
  }

  protected override _handleDataRect(): boolean {
    const { width, height } = this._FBU;
    const isDone = super._handleDataRect();
    if (isDone) this.#pixels += width * height;
    return isDone;
  }

  protected override _framebufferUpdate(): boolean {
    const isDone = super._framebufferUpdate();
    if (!isDone) return false;
    if (!this.#isWhole && this.#pixels > 0 && this.#pixels >= this._fbWidth * this._fbHeight) {
      this.#isWhole = true;
      this.#events.whole();
    }
    this.#events.drawn();
    return true;
  }

  /** A cursor is as large as what it points at: drawn in pixels of the device. */
  protected override _refreshCursor(): void {
    super._refreshCursor();
    const style = this._canvas?.style;
    // The constructor of the base class calls this before there is a ratio.
    const ratio = #ratio in this ? this.#ratio : 1;
    const image = /^url\("?([^")]+)"?\)/.exec(style?.cursor ?? '')?.[1];
    if (image === undefined || ratio === 1) return;
    const { hotx, hoty } = this._cursorImage;
    style.cursor = `image-set(url("${image}") ${ratio}x) ${Math.floor(hotx / ratio)} ${Math.floor(hoty / ratio)}, default`;
  }

  // ---- pointer ----

  /** noVNC's own handling, by mouse events, knows whole CSS pixels only. What is left of it keeps the focus. */
  protected override _handleMouse(event: MouseEvent): void {
    if (event.type === 'click' && event.target !== this._canvas) return;
    event.stopPropagation();
    event.preventDefault();
  }

  #press(event: PointerEvent): void {
    if (event.pointerType === 'touch') return;
    this.#isUsed = true;
    this._canvas.setPointerCapture(event.pointerId);
    this.focus();
    this.#move(event);
  }

  #move(event: PointerEvent): void {
    if (event.pointerType === 'touch') return;
    this.#buttons = buttonBits.reduce(
      (bits, bit, index) => bits | (event.buttons & (1 << index) ? bit : 0),
      0,
    );
    this.#point(event, this.#buttons);
  }

  #release(event: PointerEvent): void {
    if (event.pointerType === 'touch') return;
    this.#buttons = 0;
    this.#point(event, 0);
  }

  #point(event: MouseEvent, mask: number): void {
    if (this._rfbConnectionState !== 'connected') return;
    const box = this._canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) * this._fbWidth) / box.width);
    const y = Math.floor(((event.clientY - box.top) * this._fbHeight) / box.height);
    RFB.messages.pointerEvent(
      this._sock,
      Math.max(0, Math.min(this._fbWidth - 1, x)),
      Math.max(0, Math.min(this._fbHeight - 1, y)),
      mask,
    );
  }

  protected override _handleWheel(event: WheelEvent): void {
    event.stopPropagation();
    event.preventDefault();
    const { x, y } = this.#wheel.turn(event as WheelEvent & { wheelDeltaX?: number; wheelDeltaY?: number });
    this.#scroll(event, y, wheelBits.down, wheelBits.up);
    this.#scroll(event, x, wheelBits.right, wheelBits.left);
  }

  #scroll(event: WheelEvent, steps: number, forward: number, back: number): void {
    const bit = steps > 0 ? forward : back;
    for (let left = Math.abs(steps); left > 0; left--) {
      this.#point(event, this.#buttons | bit);
      this.#point(event, this.#buttons);
    }
  }
}

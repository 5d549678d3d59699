/**
 * The app in the tray: shows every state of it there, and does what is chosen. What fails is told as the app tells
 * things, and marks the icon until the user has opened a window.
 */
import type { App } from '../app.ts';
import type { CallArguments, CallName } from '../ipc/schema.ts';
import type { AppState, Notice, Place, WorkloadView } from '../ipc/view.ts';
import type { Shell } from '../shells/shell.ts';
import { textsIn } from '../texts/texts.ts';
import { type TrayActions, trayModel } from './menu.ts';

/** What the app knows the tray by, as if it were a window. */
const caller = 'tray';
/** A host's menu cannot show more than small pictures, and gets them byte by byte. */
const largestIcon = 64 * 1024;

export class AppTray {
  readonly #app: Pick<App, 'call' | 'fetch' | 'tell'>;
  readonly #shell: Pick<Shell, 'setTray'>;
  readonly #actions: TrayActions;
  /** By address; undefined where there is none that a menu can show. */
  readonly #icons = new Map<string, Uint8Array | undefined>();
  /** Workloads whose operation is being given up, here or in a window: that it fails then is no news. */
  readonly #cancelled = new Set<string>();
  #state: AppState | undefined;
  #attention = false;
  #shown: (isShown: boolean) => void = () => {};

  /** @param quit ends the app; applications run on */
  constructor(app: Pick<App, 'call' | 'fetch' | 'tell'>, shell: Pick<Shell, 'setTray'>, quit: () => void) {
    this.#app = app;
    this.#shell = shell;
    this.#actions = {
      open: (place) => void this.open(place),
      suspend: (id) => void this.#operate(id, 'workload.suspend', [id, { keepRunning: false }]),
      takeSnapshot: (id) => void this.#operate(id, 'workload.suspend', [id, { keepRunning: true }]),
      resume: (id) => void this.#resume(id),
      cancel: (id) => {
        this.#cancelled.add(id);
        void this.#call('workload.cancel', [id]);
      },
      suspendAll: () => void this.#all('session.suspendAll'),
      resumeLast: () => void this.#all('session.resumeLast'),
      pause: (paused) => void this.#call('automation.pause', [paused]),
      quit,
    };
  }

  /** Shows this state. Given to `App.onState`. */
  show(state: AppState): void {
    this.#state = state;
    for (const { id, operation } of state.workloads) if (operation?.cancelling) this.#cancelled.add(id);
    this.#update();
  }

  /** Called with whether the desktop has a tray that shows it, whenever it was changed. */
  onShown(listener: (isShown: boolean) => void): void {
    this.#shown = listener;
  }

  /** Opens a window, such as for a click on the icon; the user has then seen what failed. */
  async open(place: Place): Promise<void> {
    this.#mark(false);
    await this.#call('window.open', [place]);
  }

  #update(): void {
    const state = this.#state;
    if (state === undefined) return;
    const model = trayModel(state, textsIn(state.settings.language, state.locale), this.#actions, {
      attention: this.#attention,
      icon: (workload) => this.#icon(workload),
    });
    this.#shell.setTray(model).then(this.#shown, () => this.#shown(false));
  }

  /** A resumed application is wanted in front. */
  async #resume(id: string): Promise<void> {
    if (await this.#operate(id, 'workload.resume', [id])) await this.open({ kind: 'screen', workload: id });
  }

  /** @returns whether it was done */
  async #operate<N extends CallName>(id: string, name: N, args: CallArguments<N>): Promise<boolean> {
    this.#cancelled.delete(id);
    const answer = await this.#app.call(caller, name, args);
    if (!('error' in answer)) return true;
    if (!this.#cancelled.has(id)) this.#fail(answer.error);
    return false;
  }

  async #all(name: 'session.suspendAll' | 'session.resumeLast'): Promise<void> {
    const answer = (await this.#call(name, [])) as { result: { failed: Notice[] } } | undefined;
    for (const notice of answer?.result.failed ?? []) this.#fail(notice);
  }

  /** @returns undefined where it failed, which is told */
  async #call<N extends CallName>(name: N, args: CallArguments<N>): Promise<{ result: unknown } | undefined> {
    const answer = await this.#app.call(caller, name, args);
    if (!('error' in answer)) return answer;
    this.#fail(answer.error);
    return undefined;
  }

  #fail({ message, hint }: Pick<Notice, 'message' | 'hint'>): void {
    this.#mark(true);
    this.#app.tell({ level: 'error', message, hint });
  }

  #mark(attention: boolean): void {
    if (this.#attention === attention) return;
    this.#attention = attention;
    this.#update();
  }

  /** Undefined until it has come; then the menu is shown anew. */
  #icon({ icon }: WorkloadView): Uint8Array | undefined {
    if (!this.#icons.has(icon)) {
      this.#icons.set(icon, undefined);
      void this.#fetchIcon(icon).then((bytes) => {
        if (bytes === undefined) return;
        this.#icons.set(icon, bytes);
        this.#update();
      });
    }
    return this.#icons.get(icon);
  }

  async #fetchIcon(address: string): Promise<Uint8Array | undefined> {
    const request = new Request(new URL(address, 'http://localhost/'));
    const response = await this.#app.fetch(request).catch(() => undefined);
    if (response?.ok !== true || response.headers.get('content-type') !== 'image/png') return undefined;
    const bytes = new Uint8Array(await response.arrayBuffer());
    return bytes.length <= largestIcon ? bytes : undefined;
  }
}

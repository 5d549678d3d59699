/**
 * The app: follows the engine, answers the windows, keeps them up to date, and has the shell show things. It runs as the
 * user and can do what the user may; the engine decides that.
 */
import { existsSync } from 'node:fs';
import { readFile, statfs } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { sentenceOf, TorporError } from '../api/errors.ts';
import type { ResumeChoices, RunSpec, Workload } from '../api/types.ts';
import { Automation } from './automation/automation.ts';
import { Bundles } from './bundles.ts';
import { consentsOf } from './consents.ts';
import type { Desktop, Icon, LaunchCommand } from './desktop-parts.ts';
import {
  type CallArguments,
  type CallError,
  type CallName,
  type CallResult,
  calls,
  type EventName,
  type EventValue,
} from './ipc/schema.ts';
import type { AppState, FindingView, Notice, Place, WorkloadView } from './ipc/view.ts';
import { PolicyHistory } from './memory-policy/history.ts';
import { MemoryPolicyEngine } from './memory-policy/policy.ts';
import { memoryView, napIfNothingIsInTheWay } from './memory-view.ts';
import { noticeOf } from './notice.ts';
import { LivePictures } from './pictures/pictures.ts';
import { endProcess, withRemedies } from './remedies.ts';
import { Sessions } from './sessions.ts';
import type { Shell, WindowHost } from './shells/shell.ts';
import { screenOf } from './shells/windows.ts';
import { Shutdown } from './shutdown.ts';
import { EngineLink } from './state/engine-link.ts';
import { sessionView, snapshotView, workloadView } from './state/view.ts';
import { Workloads } from './state/workloads.ts';
import type { Texts } from './texts/en.ts';
import { languageIn, textsIn } from './texts/texts.ts';
import { WindowPlaces } from './window-places.ts';

/** Changes come in bursts; a window is told once in this time, in milliseconds. */
const tellEveryMs = 60;
/** Memory and disk change without a signal; asked for while somebody looks. */
const refreshMs = 5000;
const iconPixels = 128;

interface StartOptions {
  scale?: number | undefined;
  /** Id of the desktop entry. */
  application?: string | undefined;
  agree?: string[] | undefined;
  warm?: boolean | undefined;
}

type Send = <E extends EventName>(event: E, value: EventValue<E>) => void;
type Handlers = { [N in CallName]: (args: CallArguments<N>, window: string) => Promise<CallResult<N>> };

export class App implements WindowHost, AsyncDisposable {
  readonly #desktop: Desktop;
  readonly #link = new EngineLink();
  readonly #workloads = new Workloads(this.#link);
  readonly #bundles: Bundles;
  readonly #sessions: Sessions;
  readonly #shutdown: Shutdown;
  readonly #places: WindowPlaces;
  readonly #automation: Automation;
  readonly #memoryPolicy: MemoryPolicyEngine;
  readonly #pictures: LivePictures;
  readonly #windows = new Map<string, Send>();
  readonly #stateListeners: ((state: AppState) => void)[] = [];
  #shell: Shell | undefined;
  #hasTray = false;
  #shortcut = '';
  /** Workloads whose screens have windows, the one that was opened last at the end. */
  #screens: string[] = [];
  #disk = { bytes: 0, free: 0 };
  #telling: NodeJS.Timeout | undefined;
  #refreshing: NodeJS.Timeout | undefined;

  private constructor(desktop: Desktop, history: PolicyHistory) {
    this.#desktop = desktop;
    this.#sessions = new Sessions({
      link: this.#link,
      workloads: this.#workloads,
      choices: () => this.#choices,
      hold: (ids) => this.#pictures.hold(ids),
      changed: () => this.#changed(),
    });
    this.#shutdown = new Shutdown({
      link: this.#link,
      tell: (notice) => this.#tellUnlessSeen(notice),
      changed: () => this.#changed(),
    });
    this.#places = new WindowPlaces({
      link: this.#link,
      placements: desktop.placements,
      shell: () => this.#shell,
    });
    this.#bundles = new Bundles({
      link: this.#link,
      workloads: this.#workloads,
      choices: () => this.#choices,
      changed: () => this.#changed(),
      ended: (end) => this.#tellUnlessSeen(this.texts.bundle(end)),
    });
    this.#automation = new Automation({
      link: this.#link,
      workloads: this.#workloads,
      settings: desktop.settings,
      texts: () => this.texts.automation,
      tell: (notice) => this.tell(notice),
    });
    this.#memoryPolicy = new MemoryPolicyEngine({
      link: this.#link,
      workloads: this.#workloads,
      settings: desktop.settings,
      applications: desktop.applications,
      windows: desktop.windows,
      power: desktop.power,
      history,
      isPaused: () => this.#automation.paused,
      tell: (notice) => this.tell(notice),
    });
    this.#pictures = new LivePictures(
      () => this.#workloads.all(),
      ({ id, state }) => state === 'running' && this.#workloads.operation(id) === undefined,
      () => this.#changed(),
    );
    this.#workloads.on('changed', () => this.#changed());
    desktop.settings.onChange(() => {
      this.#changed();
      void this.#applyShortcut();
    });
  }

  static async create(desktop: Desktop): Promise<App> {
    return new App(desktop, await PolicyHistory.open(join(desktop.stateFolder, 'policy.jsonl')));
  }

  /** Connects with the engine and shows things in this shell from now on. */
  async start(shell: Shell): Promise<void> {
    this.#shell = shell;
    await this.#link.start();
    await this.#applyShortcut();
  }

  /** How the user wants applications to come back. */
  get #choices(): ResumeChoices {
    return this.#desktop.settings.value.resumeEagerly ? { eager: true } : {};
  }

  get #language(): 'en' | 'de' {
    return languageIn(this.#desktop.settings.value.language, this.#desktop.locale);
  }

  /** In the language of the settings. */
  get texts(): Texts {
    return textsIn(this.#desktop.settings.value.language, this.#desktop.locale);
  }

  /** To be called when memory has come to be short. */
  memoryIsShort(): Promise<void> {
    return this.#automation.memoryIsShort();
  }

  /** To be called when the user's session ends: does what the settings say, and resolves when that is done. */
  async sessionEnds(): Promise<void> {
    if (this.#desktop.settings.value.atLogout === 'suspend' && this.#link.state.kind === 'ready')
      await this.#sessions.suspendAll();
  }

  /** Calls the listener with every new state, such as for the tray. */
  onState(listener: (state: AppState) => void): void {
    this.#stateListeners.push(listener);
  }

  set hasTray(hasTray: boolean) {
    this.#hasTray = hasTray;
    this.#changed();
  }

  /** Says something in every window, and by the desktop where none is open. */
  tell(notice: Notice): void {
    for (const send of this.#windows.values()) send('notice', notice);
    if (this.#windows.size === 0) void this.#shell?.notify(notice);
  }

  /** What windows show by themselves. */
  #tellUnlessSeen(notice: Notice): void {
    if (this.#windows.size === 0) this.tell(notice);
  }

  /** Has the desktop give us the keys that the settings name. */
  async #applyShortcut(): Promise<void> {
    const { suspendShortcut } = this.#desktop.settings.value;
    if (this.#shell === undefined || suspendShortcut === this.#shortcut) return;
    this.#shortcut = suspendShortcut;
    const could = await this.#shell.setShortcut(
      suspendShortcut || undefined,
      () => void this.#suspendFront(),
    );
    if (!could && suspendShortcut !== '') this.tell(this.texts.shortcut.notHad(suspendShortcut));
  }

  /** Suspends the application whose window was opened last. */
  async #suspendFront(): Promise<void> {
    const id = this.#screens.findLast((each) => this.#workloads.get(each)?.state === 'running');
    if (id === undefined) {
      this.tell(this.texts.shortcut.nothingOpen);
      return;
    }
    try {
      await this.#link.client().suspend(id, { leaveRunning: false });
    } catch (error) {
      this.tell(noticeOf(error));
    }
  }

  // ---- windows ----

  windowOpened(window: string, send: Send): void {
    this.#windows.set(window, send);
    const workload = screenOf(window);
    if (workload !== undefined)
      this.#screens = [...this.#screens.filter((each) => each !== workload), workload];
    this.#attend();
    void this.state().then((state) => send('state', state));
  }

  windowClosed(window: string): void {
    this.#windows.delete(window);
    const workload = screenOf(window);
    if (workload !== undefined) {
      this.#screens = this.#screens.filter((each) => each !== workload);
      if (this.#memoryPolicy.screen === workload) this.#memoryPolicy.screen = undefined;
    }
    this.#attend();
  }

  #attend(): void {
    const isWatched = this.#windows.size > 0;
    this.#pictures.active = isWatched;
    clearInterval(this.#refreshing);
    this.#refreshing = undefined;
    if (!isWatched) return;
    this.#refreshing = setInterval(() => void this.#refresh(), refreshMs);
    void this.#refresh();
  }

  async #refresh(): Promise<void> {
    if (this.#link.state.kind !== 'ready') return;
    await Promise.all([this.#workloads.refresh().catch(() => {}), this.#sessions.read()]);
  }

  async call(
    window: string,
    name: CallName | string,
    args: unknown[],
  ): Promise<{ result: unknown } | { error: CallError }> {
    try {
      if (!Object.hasOwn(calls, name)) throw new TorporError('usage', `There is no call ${name}.`);
      const known = name as CallName;
      const checked = calls[known].args.safeParse(args);
      if (!checked.success)
        throw new TorporError(
          'usage',
          `The arguments of ${name} are not understood: ${checked.error.message}`,
        );
      const handler = this.#handlers[known] as (args: unknown, window: string) => Promise<unknown>;
      return { result: await handler(checked.data, window) };
    } catch (error) {
      const code = error instanceof TorporError ? error.code : 'failed';
      const consents = consentsOf(error, this.#language);
      return {
        error: {
          code,
          message: sentenceOf(error),
          hint: error instanceof TorporError ? error.hint : '',
          ...(consents.length === 0 ? {} : { consents }),
        },
      };
    }
  }

  async screenSocket(id: string): Promise<string> {
    const { screen, terminal, name } = this.#known(id);
    const socket = screen ?? terminal;
    if (socket === undefined || !existsSync(socket))
      throw new TorporError('failed', `${name} does not run, so it has no screen.`, 'Resume it first.');
    return socket;
  }

  // ---- state ----

  async state(): Promise<AppState> {
    const { settings, locale } = this.#desktop;
    const workloads = await Promise.all(this.#workloads.all().map((workload) => this.#view(workload)));
    await this.#measureDisk();
    return {
      engine: this.#link.state,
      workloads,
      sessions: this.#sessions
        .all()
        .map((session) => sessionView(session, workloads, this.#workloads.snapshots)),
      freedBytes: workloads.reduce((sum, { freedBytes }) => sum + freedBytes, 0),
      diskBytes: this.#disk.bytes,
      diskFreeBytes: this.#disk.free,
      ...(this.#bundles.operation === undefined ? {} : { bundle: this.#bundles.operation }),
      ...(this.#bundles.end === undefined ? {} : { bundleEnd: this.#bundles.end }),
      ...(this.#shutdown.policy === undefined ? {} : { policy: this.#shutdown.policy }),
      ...(this.#shutdown.arrival === undefined ? {} : { arrival: this.#shutdown.arrival }),
      paused: this.#automation.paused,
      settings: settings.value,
      shell: {
        kind: this.#shell?.kind ?? 'browser',
        tray: this.#hasTray,
        globalShortcut: this.#shell?.canGlobalShortcut ?? false,
      },
      locale,
    };
  }

  async #view(workload: Workload): Promise<WorkloadView> {
    return workloadView(workload, {
      application: await this.#desktop.applications.of(workload),
      snapshots: this.#workloads.snapshotsOf(workload.id),
      operation: this.#workloads.operation(workload.id),
      loading: this.#workloads.loading(workload.id),
      live: this.#pictures.version(workload.id),
    });
  }

  async #measureDisk(): Promise<void> {
    const bytes = this.#workloads.snapshots.reduce((sum, { bytesOnDisk }) => sum + bytesOnDisk, 0);
    const { state } = this.#link;
    const disk = state.kind === 'ready' ? await statfs(state.stateDir).catch(() => undefined) : undefined;
    this.#disk = { bytes, free: disk === undefined ? 0 : disk.bavail * disk.bsize };
  }

  #changed(): void {
    this.#telling ??= setTimeout(async () => {
      this.#telling = undefined;
      const state = await this.state();
      for (const send of this.#windows.values()) send('state', state);
      for (const listener of this.#stateListeners) listener(state);
    }, tellEveryMs);
  }

  // ---- calls ----

  readonly #handlers: Handlers = {
    'state.get': () => this.state(),

    'plugins.list': () => this.#link.client().plugins(),
    'programs.list': () => {
      const known = new Set(this.#workloads.all().flatMap(({ pids }) => pids));
      return this.#desktop.programs((pid) => known.has(pid));
    },
    'workload.inspect': ([id]) => this.#inspect(id),
    'workload.remedy': async ([id, { pid }]) => {
      const offered = await this.#inspect(id);
      // Only what is offered now: it may have ended, and its pid be somebody else's.
      if (pid === undefined || !offered.some(({ remedy }) => remedy?.pid === pid))
        throw new TorporError('not-found', 'What was found is not there any more.', 'Look again.');
      await endProcess(pid);
      return this.#inspect(id);
    },
    'workload.suspend': async ([id, { keepRunning }]) => {
      using _hold = await this.#pictures.hold([id]);
      try {
        const { freedBytes } = await this.#link.client().suspend(id, { leaveRunning: keepRunning });
        return { freedBytes };
      } finally {
        this.#workloads.markDone(id);
      }
    },
    'workload.resume': ([id]) => this.#resume(id),
    'workload.nap': async ([id]) => {
      using _hold = await this.#pictures.hold([id]);
      const { memoryBefore, memoryAfter } = await this.#link.client().nap(id, {});
      await this.#workloads.refresh();
      return { freedBytes: Math.max(0, memoryBefore - memoryAfter) };
    },
    'memory.view': async () =>
      memoryView(await this.#link.client().memory(), this.#desktop.applications, process.pid),
    'memory.nap': async ([target, { anyway }]) => {
      const done = await napIfNothingIsInTheWay(this.#link.client(), target, anyway);
      await this.#workloads.refresh();
      return done;
    },
    'memory.wake': async ([target]) => {
      await this.#link.client().wake(target);
      await this.#workloads.refresh();
    },
    'workload.wake': async ([id]) => {
      const client = this.#link.client();
      await client.wake(id).catch(async (error: unknown) => {
        // Going to its window has woken it already.
        if ((await client.get(id)).state !== 'running') throw error;
      });
      await this.#workloads.refresh();
    },
    'workload.cancel': async ([id]) => {
      this.#workloads.markCancelling(id);
      await this.#link.client().cancel(id);
    },
    'workload.end': async ([id]) => {
      await this.#link.client().end(id);
    },
    'workload.forget': async ([id]) => {
      await this.#link.client().forget(id);
      await this.#workloads.refresh();
    },

    'workload.setInterval': async ([id, everySeconds]) => {
      if (everySeconds === null) {
        await this.#link.client().endInterval(id);
        return;
      }
      const { intervalKeepLast: keepLast } = this.#desktop.settings.value;
      using _hold = await this.#pictures.hold([id]);
      await this.#link.client().setInterval(id, { everySeconds, keepLast });
    },

    'snapshots.list': async ([id]) => {
      await this.#workloads.readSnapshots();
      return this.#workloads
        .snapshotsOf(id)
        .map((snapshot) => snapshotView(snapshot, this.#workloads.get(id)));
    },
    'snapshot.goTo': async ([id]) => {
      const snapshot = this.#knownSnapshot(id);
      const workload = this.#workloads.get(snapshot.workload);
      if (workload?.state === 'running')
        await this.#link.client().suspend(workload.id, { leaveRunning: false });
      await this.#resume(id, snapshot.workload);
    },
    'snapshot.resumeCopy': async ([id]) => {
      const { workload } = await this.#link.client().resume(id, { copy: true, ...this.#choices });
      return workload.id;
    },
    'snapshot.keep': async ([id, keep]) => {
      await this.#link.client().keep(id, keep);
      await this.#workloads.readSnapshots();
    },
    'snapshot.remove': async ([id]) => {
      await this.#link.client().remove(id);
      await this.#workloads.readSnapshots();
    },

    'applications.list': () => this.#desktop.applications.list(),
    'applications.forFile': ([path]) => this.#desktop.applications.forFile(path),
    'applications.launch': async ([id, { action, files, scale, agree }]) => {
      const command = await this.#desktop.applications.commandFor(id, {
        ...(action === undefined ? {} : { action }),
        ...(files === undefined ? {} : { files }),
      });
      // With a document the next start would hardly be the same one.
      const warm = this.#desktop.settings.value.startWarm && (files ?? []).length === 0;
      const workload = await this.#run(command, { scale, application: id, agree, warm });
      await this.#desktop.applications.used(id);
      return workload;
    },
    'command.run': async ([line, { terminal, scale, agree }]) => {
      const argv = ['/bin/sh', '-c', line];
      const command = terminal
        ? await this.#desktop.applications.inTerminal(argv)
        : { name: line.trim().split(/\s+/)[0] ?? line, argv };
      return this.#run(command, { scale, agree });
    },

    'window.open': async ([place]) => this.show(place),
    'window.close': async (_args, window) => this.#shell?.close(window),

    'screen.windows': ([id]) => this.#link.client().windows(id),
    'screen.activate': async ([id, window]) => {
      await this.#link.client().activateWindow(id, window);
    },

    'screen.focused': async ([id, isFocused]) => {
      if (isFocused) this.#memoryPolicy.screen = id;
      else if (this.#memoryPolicy.screen === id) this.#memoryPolicy.screen = undefined;
    },

    'session.suspendAll': () => this.#sessions.suspendAll(),
    'session.resumeLast': () => this.#sessions.resumeLast(),
    'session.save': ([request]) => this.#sessions.save(request),
    'session.restore': ([name]) => this.#sessions.restore(name),
    'session.forget': ([name]) => this.#sessions.forget(name),
    'policy.set': ([change]) => this.#shutdown.change(change),
    'policy.saveAt': ([event, on]) => this.#shutdown.saveAt(event, on),
    'arrival.dismiss': async () => this.#shutdown.dismissArrival(),
    'memoryPolicy.set': ([change]) => this.#memoryPolicy.change(change),
    'memoryPolicy.rule': ([application, action]) => this.#memoryPolicy.setRule(application, action),
    'memoryPolicy.view': () => this.#memoryPolicy.view(),
    'automation.pause': async ([paused]) => {
      this.#automation.paused = paused;
      this.#changed();
    },
    'drives.list': () => this.#bundles.drives(),
    'bundle.look': ([path]) => this.#bundles.look(path),
    'bundle.export': async ([request]) => {
      try {
        return await this.#bundles.export(request);
      } finally {
        for (const id of request.workloads) this.#workloads.markDone(id);
      }
    },
    'bundle.import': ([request]) => this.#bundles.import(request),
    'bundle.cancel': () => this.#bundles.cancel(),
    'bundle.dismiss': async () => this.#bundles.dismiss(),
    'settings.set': ([change]) => this.#desktop.settings.set(change),
    'external.open': ([address]) => this.#desktop.openExternal(address),
  };

  /** Opens a window there, or brings the one that is there to the front. */
  async show(place: Place): Promise<void> {
    if (this.#shell === undefined)
      throw new TorporError('failed', 'The app is still starting.', 'Try again.');
    await this.#shell.open(place, this.#places.wanted(place));
  }

  /** Opens files: with the application that is the user's default for the first. */
  async openFiles(files: readonly string[]): Promise<void> {
    const [first] = files;
    if (first === undefined) return;
    const [application] = await this.#desktop.applications.forFile(first);
    if (application === undefined)
      throw new TorporError(
        'not-found',
        `No installed application opens ${first}.`,
        'Start one in Torpor and open the file from there.',
      );
    const command = await this.#desktop.applications.commandFor(application.id, { files });
    await this.show({ kind: 'screen', workload: await this.#run(command, { application: application.id }) });
    await this.#desktop.applications.used(application.id);
  }

  suspendAll(): Promise<{ suspended: number; failed: Notice[] }> {
    return this.#sessions.suspendAll();
  }

  async #inspect(id: string): Promise<FindingView[]> {
    const inspection = await this.#link.client().inspect(id);
    // What else a user started in a terminal is not for Torpor to end.
    if (this.#workloads.get(id)?.kind !== 'capsule') return inspection.findings;
    return withRemedies(inspection, this.texts.remedies);
  }

  async #resume(target: string, workload = target): Promise<void> {
    try {
      await this.#link.client().resume(target, { copy: false, ...this.#choices });
    } finally {
      this.#workloads.markDone(workload);
    }
  }

  async #run(command: LaunchCommand, { scale = 1, application, agree, warm }: StartOptions): Promise<string> {
    // GTK draws at whole multiples only; Qt takes any, and a terminal's fonts follow neither.
    const env = scale >= 1.5 ? { GDK_SCALE: String(Math.round(scale)), QT_SCALE_FACTOR: String(scale) } : {};
    const spec: RunSpec = {
      command: command.argv,
      env,
      callerEnv: Object.fromEntries(
        Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
      ),
      cwd: command.cwd ?? homedir(),
      ...(application === undefined ? {} : { application }),
      ...(agree === undefined ? {} : { agree }),
      ...(warm ? { warm } : {}),
    };
    const { id, told = [], warm: howWarm } = await this.#link.client().run(spec);
    const toTell = howWarm?.start === 'cold' && howWarm.why !== undefined ? [...told, howWarm.why] : told;
    for (const text of toTell) this.tell({ level: 'info', message: text[this.#language], hint: '' });
    await this.#refresh();
    return id;
  }

  #known(id: string): Workload {
    const found = this.#workloads.get(id);
    if (found === undefined)
      throw new TorporError('not-found', `There is no application ${id} any more.`, 'Start it anew.');
    return found;
  }

  #knownSnapshot(id: string) {
    const found = this.#workloads.snapshot(id);
    if (found === undefined)
      throw new TorporError('not-found', `There is no snapshot ${id} any more.`, 'Choose another one.');
    return found;
  }

  // ---- pictures ----

  async fetch(request: Request): Promise<Response> {
    const path = new URL(request.url).pathname.split('/').slice(1).map(decodeURIComponent);
    try {
      const picture = await this.#picture(path);
      if (picture !== undefined)
        return new Response(new Uint8Array(picture.bytes), { headers: { 'content-type': picture.type } });
    } catch (error) {
      return new Response(noticeOf(error).message, {
        status: 404,
        headers: { 'content-type': 'text/plain' },
      });
    }
    return new Response('There is no such picture.', {
      status: 404,
      headers: { 'content-type': 'text/plain' },
    });
  }

  async #picture([kind, of, id]: string[]): Promise<Icon | undefined> {
    const { applications } = this.#desktop;
    if (kind === 'icons' && id !== undefined)
      return applications.icon(of === 'app' ? { application: id, name: id } : { name: id }, iconPixels);
    if (kind === 'thumbnails' && of === 'live' && id !== undefined) {
      const bytes = this.#pictures.png(id);
      return bytes && { type: 'image/png', bytes };
    }
    if ((kind === 'thumbnails' || kind === 'pictures') && of !== undefined) {
      const path = await this.#link.client().picture(of, kind === 'pictures' ? 'full' : 'thumbnail');
      return { type: 'image/png', bytes: await readFile(path) };
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#refreshing);
    clearTimeout(this.#telling);
    this.#memoryPolicy[Symbol.dispose]();
    this.#pictures[Symbol.dispose]();
    await this.#link[Symbol.asyncDispose]();
  }
}

/** The bridges of all capsules of one user, and what the engine asks of them. */
import { capsuleBus } from '../../api/paths.ts';
import type { PluginFinding, PluginWorkload } from '../../api/plugin-types.ts';
import type { PluginMethods } from '../../api/plugin1.ts';
import type { Workload } from '../../api/types.ts';
import { Capsule } from './capsule.ts';
import { emptyState, encodeState, parseState, type State } from './carried.ts';
import type { Outside } from './clients.ts';
import { Kept } from './kept.ts';
import { OutsideBus } from './outside.ts';
import type { Side } from './policy.ts';
import { SocketLoop } from './sockets.ts';

const attachLimitMs = 5000;

export interface BridgeOptions {
  /** Addresses of the user's buses, where there are any. */
  addresses: Readonly<Partial<Record<Side, string>>>;
  /** Whether players go on after a resume that were playing before the suspend. */
  resumesPlayers: () => Promise<boolean>;
  /** Processes of a workload, as the host counts. */
  pidsOf: (id: string) => Promise<readonly number[]>;
  /** Where it keeps what it holds, for a bridge that comes after it; in no folder of the capsules. */
  keepIn?: string;
}

export class Bridge implements PluginMethods {
  readonly #options: BridgeOptions;
  readonly #loop = new SocketLoop();
  readonly #outside: Outside;
  readonly #kept: Kept;
  readonly #capsules = new Map<string, Capsule>();
  /** Capsules that are being suspended, with what was let go of. */
  readonly #detached = new Map<string, State>();

  constructor(options: BridgeOptions) {
    this.#options = options;
    this.#kept = new Kept(options.keepIn);
    const events = {
      changed: (service: Parameters<Capsule['serviceChanged']>[0]) => {
        for (const capsule of this.#capsules.values()) void capsule.serviceChanged(service).catch(() => {});
      },
      signal: (...said: Parameters<Capsule['broadcast']>) => {
        for (const capsule of this.#capsules.values()) void capsule.broadcast(...said).catch(() => {});
      },
    };
    const busOf = (side: Side) => {
      const address = options.addresses[side];
      return address === undefined ? undefined : new OutsideBus(side, address, this.#loop, events);
    };
    const [session, system] = [busOf('session'), busOf('system')];
    this.#outside = { ...(session && { session }), ...(system && { system }) };
    for (const bus of [session, system]) void bus?.run();
  }

  /** A workload is as this says: a capsule that runs is bridged, one that does not is no longer. */
  follow({ id, kind, state, bus }: Pick<Workload, 'id' | 'kind' | 'state' | 'bus'>): void {
    if (kind !== 'capsule') return;
    if (state === 'running' && bus !== undefined) {
      if (!this.#detached.has(id)) this.#capsuleAt(id, bus).attach();
    } else if (state === 'ended' || state === 'suspended') this.forget(id);
  }

  forget(id: string): void {
    void this.#capsules.get(id)?.end();
    this.#capsules.delete(id);
    this.#detached.delete(id);
    this.#kept.remove(id);
  }

  /** Leaves all buses. The applications run on. */
  async end(): Promise<void> {
    const capsules = [...this.#capsules.values()];
    this.#capsules.clear();
    await Promise.all(capsules.map((each) => each.leave()));
    for (const bus of Object.values(this.#outside)) bus.stop();
  }

  #capsuleAt(id: string, socket: string): Capsule {
    const there = this.#capsules.get(id);
    if (there !== undefined) return there;
    const pids = () => this.#options.pidsOf(id);
    const capsule = new Capsule({
      id,
      socket,
      outside: this.#outside,
      loop: this.#loop,
      kept: this.#kept,
      pids,
    });
    this.#capsules.set(id, capsule);
    return capsule;
  }

  async describe(): ReturnType<PluginMethods['describe']> {
    return {
      version: 1,
      title: 'the bridge to the services of the desktop',
      policy: 'optional',
      after: [],
      beforeItRuns: false,
      kinds: ['capsule'],
    };
  }

  async inspect({ id }: PluginWorkload): Promise<PluginFinding[]> {
    const holds = this.#capsules.get(id)?.holds;
    if (holds === undefined) return [];
    const found = (count: number, what: string, hint: string): PluginFinding[] =>
      count === 0 ? [] : [{ tie: 'session-service', verdict: 'handled', what, hint }];
    return [
      ...found(
        holds.inhibitors,
        'It keeps the screen or the machine from sleeping.',
        'That is released for the suspend and taken again after the resume.',
      ),
      ...found(
        holds.notifications,
        holds.notifications === 1
          ? 'It shows a notification.'
          : `It shows ${holds.notifications} notifications.`,
        'They are closed for the suspend, and it hears of that after the resume.',
      ),
      ...found(
        holds.requests,
        'It has asked its user for something in a dialog of the desktop.',
        'The dialog is closed for the suspend, and the application is told that it was not answered.',
      ),
    ];
  }

  async preSuspend({ id, pids }: PluginWorkload): Promise<Uint8Array> {
    const known = this.#detached.get(id);
    const capsule = this.#capsules.get(id);
    // Asked once more, it has let go already.
    if (capsule === undefined || known !== undefined)
      return known === undefined ? Buffer.alloc(0) : encodeState(known);
    this.#capsules.delete(id);
    // From now on, whatever is heard of it: nothing attaches to it again while it is suspended.
    this.#detached.set(id, emptyState);
    const state = await capsule.detach(pids);
    this.#detached.set(id, state);
    return encodeState(state);
  }

  async postResume(workload: PluginWorkload, state: Uint8Array): Promise<PluginFinding[]> {
    this.#detached.delete(workload.id);
    const plays = await this.#options.resumesPlayers();
    const missing = await this.#capsuleOf(workload).restore(parseState(state), plays, attachLimitMs);
    if (missing === undefined) {
      return [
        {
          tie: 'session-service',
          verdict: 'degraded',
          what: 'Its session bus does not answer, so that it has no services of the desktop yet.',
          hint: 'It gets them when the bus answers, and with them what it had of them.',
        },
      ];
    }
    return missing.map((service) => ({
      tie: 'session-service',
      verdict: 'degraded',
      what: `What keeps the screen or the machine from sleeping could not be taken again (${service}).`,
      hint: 'It is taken again when that service is back.',
    }));
  }

  async abort(workload: PluginWorkload, state: Uint8Array): Promise<void> {
    // Nothing of it runs: a resume has failed, and there will be another.
    if (workload.pids.length === 0) {
      this.forget(workload.id);
      return;
    }
    // The engine has none where it ended before it was told: then there is what was kept.
    const kept = state.length === 0 ? this.#kept.read(workload.id) : undefined;
    const known = this.#detached.get(workload.id) ?? kept ?? parseState(state);
    this.#detached.delete(workload.id);
    // For its user nothing has happened: what was playing plays.
    await this.#capsuleOf(workload).restore(known, true, attachLimitMs);
  }

  #capsuleOf({ id, runFolder = '' }: PluginWorkload): Capsule {
    return this.#capsuleAt(id, capsuleBus(runFolder));
  }
}

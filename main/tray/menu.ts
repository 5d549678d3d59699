/**
 * What the tray shows, from the state of the app: pure. Running applications have a submenu, suspended ones are resumed
 * by a click; what is under way says how far it is and can be cancelled. A long list is cut, so that the menu fits on
 * a screen; the rest is in the window.
 */
import type { AppState, Operation, Place, WorkloadView } from '../ipc/view.ts';
import type { TrayItem, TrayModel } from '../shells/shell.ts';
import type { Texts } from '../texts/en.ts';

/** What the entries do. */
export interface TrayActions {
  open(place: Place): void;
  suspend(workload: string): void;
  takeSnapshot(workload: string): void;
  resume(workload: string): void;
  cancel(workload: string): void;
  suspendAll(): void;
  resumeLast(): void;
  pause(paused: boolean): void;
  quit(): void;
}

export interface TrayExtras {
  /** Something failed and the user has not looked at it yet. */
  attention: boolean;
  /** The icon of a workload as a PNG, where it is known. */
  icon?(workload: WorkloadView): Uint8Array | undefined;
}

/** Entries of a list before it is cut. */
export const longestList = 6;
const longestName = 40;

type Labelled = WorkloadView & { label: string };

export function trayModel(
  state: AppState,
  { tray: texts }: Texts,
  actions: TrayActions,
  { attention, icon = () => undefined }: TrayExtras,
): TrayModel {
  const workloads = labelled(
    state.workloads.filter((workload) => workload.state !== 'ended'),
    texts,
  );
  const suspended = workloads.filter(isSuspended);
  const running = workloads.filter((workload) => !isSuspended(workload));
  const busy = workloads.filter(isBusy);
  const isReady = state.engine.kind === 'ready';
  const isBroken = state.engine.kind === 'unavailable';
  const progress = progressOf(busy);

  const openHome = () => actions.open({ kind: 'home' });
  const section = (
    id: string,
    label: string,
    all: Labelled[],
    entry: (one: Labelled) => TrayItem,
  ): TrayItem[] => {
    if (all.length === 0) return [];
    const shown = cut(all);
    const hidden = all.length - shown.length;
    return [
      { kind: 'label', id, label },
      ...shown.map(entry),
      ...command(hidden > 0, `${id}:more`, texts.more(hidden), openHome),
      { kind: 'separator', id: `${id}:end` },
    ];
  };

  return {
    status: attention || isBroken ? 'attention' : busy.length > 0 ? 'busy' : state.paused ? 'paused' : 'idle',
    ...(progress !== undefined && { progress }),
    title: texts.title,
    tooltip: tooltipOf(state, texts, { running, suspended, busy }),
    items: [
      ...engineItems(state, texts),
      ...section('running', texts.running, running, (one) =>
        runningItem(one, texts, actions, isReady, icon(one)),
      ),
      ...section('suspended', texts.suspended, suspended, (one) => ({
        kind: 'command',
        id: `resume:${one.id}`,
        label: one.label,
        enabled: isReady,
        ...withIcon(icon(one)),
        act: () => actions.resume(one.id),
      })),
      {
        kind: 'command',
        id: 'suspend-all',
        label: texts.suspendAll,
        enabled: isReady && running.some((one) => !isBusy(one)),
        act: () => actions.suspendAll(),
      },
      {
        kind: 'command',
        id: 'resume-last',
        label: texts.resumeLast,
        enabled: isReady && suspended.length > 0,
        act: () => actions.resumeLast(),
      },
      ...(state.freedBytes > 0
        ? [{ kind: 'label' as const, id: 'freed', label: texts.freed(state.freedBytes) }]
        : []),
      {
        kind: 'check',
        id: 'pause',
        label: texts.pause,
        enabled: true,
        checked: state.paused,
        act: () => actions.pause(!state.paused),
      },
      { kind: 'separator', id: 'end' },
      ...command(true, 'open', texts.openTorpor, openHome),
      ...command(true, 'quit', texts.quit, () => actions.quit()),
    ],
  };
}

const isSuspended = (one: WorkloadView) => one.state === 'suspended' && one.operation === undefined;
const isBusy = (one: WorkloadView) =>
  one.operation !== undefined || one.state === 'suspending' || one.state === 'resuming';
const withIcon = (icon: Uint8Array | undefined) => (icon === undefined ? {} : { icon });

function command(isThere: boolean, id: string, label: string, act: () => void): TrayItem[] {
  return isThere ? [{ kind: 'command', id, label, enabled: true, act }] : [];
}

/** Why there is nothing to see, where that is so. */
function engineItems(state: AppState, texts: Texts['tray']): TrayItem[] {
  const label = (text: string): TrayItem[] => [
    { kind: 'label', id: 'engine', label: text },
    { kind: 'separator', id: 'engine:end' },
  ];
  switch (state.engine.kind) {
    case 'connecting':
      return label(texts.connecting);
    case 'unavailable':
      return label(texts.unavailable);
    case 'ready':
      return state.workloads.every((one) => one.state === 'ended') ? label(texts.nothing) : [];
  }
}

/** One that runs, or is about to run or to be suspended. The id stays, so that an open submenu does. */
function runningItem(
  one: Labelled,
  texts: Texts['tray'],
  actions: TrayActions,
  isReady: boolean,
  icon: Uint8Array | undefined,
): TrayItem {
  const entry = (id: string, label: string, enabled: boolean, act: () => void): TrayItem => ({
    kind: 'command',
    id: `${id}:${one.id}`,
    label,
    enabled: enabled && isReady,
    act,
  });
  const busy = isBusy(one);
  return {
    kind: 'submenu',
    id: `workload:${one.id}`,
    label: runningLabel(one, texts),
    ...withIcon(icon),
    items: [
      ...(one.kind === 'capsule'
        ? [entry('open', texts.open, true, () => actions.open({ kind: 'screen', workload: one.id }))]
        : []),
      entry('suspend', texts.suspend, !busy, () => actions.suspend(one.id)),
      entry('snapshot', texts.takeSnapshot, !busy, () => actions.takeSnapshot(one.id)),
      ...(one.operation === undefined
        ? []
        : [entry('cancel', texts.cancel, !one.operation.cancelling, () => actions.cancel(one.id))]),
    ],
  };
}

function runningLabel(one: Labelled, texts: Texts['tray']): string {
  if (one.operation?.cancelling) return texts.cancelling(one.label);
  const share = shareOf(one.operation);
  const operation = one.operation?.operation;
  if (operation === 'suspend' || one.state === 'suspending') return texts.suspending(one.label, share);
  if (operation === 'resume' || one.state === 'resuming') return texts.resuming(one.label, share);
  return one.state === 'napping' ? texts.napping(one.label) : one.label;
}

function shareOf(operation: Operation | undefined): number | undefined {
  if (operation === undefined || !(operation.bytesTotal > 0)) return undefined;
  return Math.min(1, Math.max(0, operation.bytesDone / operation.bytesTotal));
}

/** Of everything under way whose size is known, by bytes. */
function progressOf(busy: readonly WorkloadView[]): number | undefined {
  let [done, total] = [0, 0];
  for (const { operation } of busy) {
    const share = shareOf(operation);
    if (operation === undefined || share === undefined) continue;
    done += share * operation.bytesTotal;
    total += operation.bytesTotal;
  }
  return total > 0 ? done / total : undefined;
}

/** The first ones, but none that is under way is left out; in the order they came. */
function cut(all: readonly Labelled[]): readonly Labelled[] {
  if (all.length <= longestList) return all;
  const chosen = new Set([...all.filter(isBusy), ...all].slice(0, longestList));
  return all.filter((one) => chosen.has(one));
}

/** Names on one line, not too long, and told apart by their times where they are the same. */
function labelled(workloads: readonly WorkloadView[], texts: Texts['tray']): Labelled[] {
  const named = workloads.map((one) => ({ ...one, label: nameOf(one) }));
  return named.map((one) =>
    named.some((other) => other !== one && other.label === one.label)
      ? { ...one, label: texts.since(one.label, one.since) }
      : one,
  );
}

function nameOf({ title, name, id }: WorkloadView): string {
  const onOneLine = (text: string) => text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
  const line = onOneLine(title) || onOneLine(name) || id;
  const characters = [...new Intl.Segmenter().segment(line)].map(({ segment }) => segment);
  return characters.length > longestName
    ? `${characters
        .slice(0, longestName - 1)
        .join('')
        .trimEnd()}…`
    : line;
}

/** What is under way is named without figures: hosts fetch the whole icon again whenever this changes. */
function tooltipOf(
  state: AppState,
  texts: Texts['tray'],
  { running, suspended, busy }: Record<'running' | 'suspended' | 'busy', readonly Labelled[]>,
): string {
  if (state.engine.kind === 'unavailable') return state.engine.message;
  if (state.engine.kind === 'connecting') return texts.connecting;
  if (busy.length > 0) return texts.busy(busy.slice(0, longestList).map((one) => one.label));
  const parts = [
    ...(running.length > 0 ? [texts.countRunning(running.length)] : []),
    ...(suspended.length > 0 ? [texts.countSuspended(suspended.length)] : []),
    ...(state.freedBytes > 0 ? [texts.freed(state.freedBytes)] : []),
    ...(state.paused ? [texts.paused] : []),
  ];
  return parts.length > 0 ? parts.join(' · ') : texts.nothing;
}

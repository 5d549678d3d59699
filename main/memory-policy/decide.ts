/** Which applications are to be put aside, in which order, and when next. Pure; all times in milliseconds since the epoch. */
import type { MemoryPolicy, PolicyAction, PolicyCause } from '../ipc/policy-view.ts';

/** An application as the policy sees it. */
export interface Considered {
  /** Its user was in it last; now, where they are. */
  usedAt: number;
  isInFront: boolean;
  isNapping: boolean;
  /** Since when all of its windows are minimised. */
  minimisedAt: number | undefined;
  /** It could not be put aside: not to be tried again before. */
  notBefore: number;
  action: PolicyAction;
}

/** Who has minimised a window may want it back at once. */
const minimisedForMs = 10_000;
/** Who has just gone to another window often comes back at once. */
export const leastIdleMs = 30_000;
const minuteMs = 60_000;

const canBePutAside = ({ action, isInFront, isNapping }: Considered) =>
  action !== 'never' && !isInFront && !isNapping;

/** When it is to be put aside for not being used, and why it is then; undefined where it is not. */
export function dueFor(
  each: Considered,
  policy: MemoryPolicy,
  onBattery: boolean,
): { at: number; why: PolicyCause } | undefined {
  if (!canBePutAside(each)) return undefined;
  const { idleMinutes, batteryIdleMinutes, onMinimise } = policy;
  const times: { at: number; why: PolicyCause }[] = [];
  if (idleMinutes > 0) times.push({ at: each.usedAt + idleMinutes * minuteMs, why: 'idle' });
  if (onBattery && batteryIdleMinutes > 0)
    times.push({ at: each.usedAt + batteryIdleMinutes * minuteMs, why: 'battery' });
  if (onMinimise && each.minimisedAt !== undefined)
    times.push({ at: each.minimisedAt + minimisedForMs, why: 'minimised' });
  const first = times.sort((a, b) => a.at - b.at)[0];
  return first && { ...first, at: Math.max(first.at, each.notBefore) };
}

/** Those that could be put aside now for something that concerns all of them, the least recently used first. */
export function inTurn<C extends Considered>(all: readonly C[], now: number, why: PolicyCause): C[] {
  const isIdle = ({ usedAt }: Considered) => why !== 'pressure' || now - usedAt >= leastIdleMs;
  return all
    .filter((each) => canBePutAside(each) && each.notBefore <= now && isIdle(each))
    .sort((a, b) => a.usedAt - b.usedAt);
}

/**
 * Where windows are under X11, and how they are put there: by the window manager (Extended Window Manager Hints 1.5), which
 * every shell's windows have in common. Where there is no X server, or it does not have the window, nothing is known.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { XConnection } from '../../x11/connection.ts';
import type { WindowPlacement } from '../placement.ts';

export interface XWindow {
  id: number;
  /** Both parts of WM_CLASS. */
  instance: string;
  group: string;
}

/** Which window is meant. */
export type IsMeant = (window: XWindow) => boolean;

/** A window that was only just opened is managed in this time. */
const appearsMs = 5000;
const lookEveryMs = 20;
/** A program may go on putting its new window where it thinks best while that comes up; once it is right it is the user's. */
const mostTries = 6;
const tryEveryMs = 200;

const onAllWorkspaces = 0xffffffff;
/** Static gravity: the place is that of what is inside the frame. */
const gravity = 10;
const [hasPosition, hasSize] = [0b0011 << 8, 0b1100 << 8];
/** That a person wants it, not the program by itself. */
const fromUser = 2;
const [remove, add] = [0, 1];

/** States in which a window fills the screen, the one that counts first where it has both. */
const filling = [
  { state: 'full-screen', names: ['_NET_WM_STATE_FULLSCREEN'] },
  { state: 'maximised', names: ['_NET_WM_STATE_MAXIMIZED_VERT', '_NET_WM_STATE_MAXIMIZED_HORZ'] },
] as const;

/** Where the window is; undefined where there is none such. */
export async function placementOnX(isMeant: IsMeant): Promise<WindowPlacement | undefined> {
  const connection = await XConnection.open().catch(() => undefined);
  if (connection === undefined) return undefined;
  using _open = connection;
  try {
    const window = await find(connection, isMeant);
    return window === undefined ? undefined : await placementOf(connection, window);
  } catch {
    // It has gone meanwhile.
    return undefined;
  }
}

/** Puts the window where it is to be, when it has come. @returns whether there is such a window */
export async function placeOnX(isMeant: IsMeant, wanted: WindowPlacement): Promise<boolean> {
  const connection = await XConnection.open().catch(() => undefined);
  if (connection === undefined) return false;
  using _open = connection;
  try {
    const window = await appears(connection, isMeant);
    if (window === undefined) return false;
    for (let tries = 0; tries < mostTries; tries++) {
      await place(connection, window, wanted);
      if (await becomesSame(connection, window, wanted)) break;
    }
    return true;
  } catch {
    return false;
  }
}

/** It is left to the user at once, who may want it elsewhere. */
async function becomesSame(
  connection: XConnection,
  window: number,
  wanted: WindowPlacement,
): Promise<boolean> {
  for (const end = Date.now() + tryEveryMs; Date.now() < end; await sleep(lookEveryMs))
    if (isSame(await placementOf(connection, window), wanted)) return true;
  return false;
}

async function appears(connection: XConnection, isMeant: IsMeant): Promise<number | undefined> {
  for (const end = Date.now() + appearsMs; Date.now() < end; await sleep(lookEveryMs)) {
    const window = await find(connection, isMeant);
    if (window !== undefined) return window;
  }
  return undefined;
}

async function find(connection: XConnection, isMeant: IsMeant): Promise<number | undefined> {
  for (const id of await connection.numbers(connection.root, '_NET_CLIENT_LIST')) {
    const [instance = '', group = ''] = await connection.texts(id, 'WM_CLASS').catch(() => []);
    if (isMeant({ id, instance, group })) return id;
  }
  return undefined;
}

async function placementOf(connection: XConnection, window: number): Promise<WindowPlacement> {
  const [{ x, y, width, height }, states, [workspace]] = await Promise.all([
    connection.rectangle(window),
    connection.numbers(window, '_NET_WM_STATE'),
    connection.numbers(window, '_NET_WM_DESKTOP'),
  ]);
  const named = await Promise.all(
    filling.map(({ names }) => Promise.all(names.map((name) => connection.atom(name)))),
  );
  const fills = filling.find((_, at) => named[at]?.every((atom) => states.includes(atom)));
  return {
    position: { x, y },
    size: { width, height },
    state: fills?.state ?? 'normal',
    ...(workspace === undefined
      ? {}
      : { workspace: workspace === onAllWorkspaces ? ('all' as const) : workspace }),
  };
}

async function place(connection: XConnection, window: number, wanted: WindowPlacement): Promise<void> {
  const { position, size, state, workspace } = wanted;
  const tell = (message: string, ...data: number[]) => connection.tell(window, message, data);
  if (workspace !== undefined)
    await tell('_NET_WM_DESKTOP', workspace === 'all' ? onAllWorkspaces : workspace, fromUser);
  const change = async (action: number, states: readonly (typeof filling)[number][]) => {
    for (const { names } of states) {
      const [first = 0, second = 0] = await Promise.all(names.map((name) => connection.atom(name)));
      await tell('_NET_WM_STATE', action, first, second, fromUser);
    }
  };
  await change(
    remove,
    filling.filter((each) => each.state !== state),
  );
  if (position !== undefined) {
    // One that fills a screen is only to be on that screen: its size without that is its own to say.
    const which = state === 'normal' ? hasPosition | hasSize : hasPosition;
    const flags = gravity | which | (fromUser << 12);
    await tell('_NET_MOVERESIZE_WINDOW', flags, position.x, position.y, size.width, size.height);
  }
  await change(
    add,
    filling.filter((each) => each.state === state),
  );
}

function isSame(there: WindowPlacement, wanted: WindowPlacement): boolean {
  if (there.state !== wanted.state || there.workspace !== (wanted.workspace ?? there.workspace)) return false;
  if (wanted.state !== 'normal') return true;
  const { position = there.position, size } = wanted;
  return (
    there.position?.x === position?.x &&
    there.position?.y === position?.y &&
    there.size.width === size.width &&
    there.size.height === size.height
  );
}

/** The whole list of what Electron's two processes say to each other; what is inside a call is in main/ipc/schema.ts. */

export const channels = {
  /** From a window: the page listens now. */
  opened: 'torpor:opened',
  /** From a window, answered: name and arguments of a call. */
  call: 'torpor:call',
  /** To a window: name and value of an event. */
  event: 'torpor:event',
  /** From a window: {@link ScreenRequest}. */
  openScreen: 'torpor:open-screen',
  /** To a window: {@link ScreenAnswer}, and the port where there is a screen. */
  screen: 'torpor:screen',
} as const;

export interface ScreenRequest {
  request: number;
  workload: string;
}

export interface ScreenAnswer {
  request: number;
  /** Why there is no port. */
  error?: string;
}

/** Our own scheme: pages are as much of one origin as those of a server, and no port is open. */
export const scheme = 'torpor';
export const origin = `${scheme}://app`;

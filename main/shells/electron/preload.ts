/**
 * What a window of Electron's has of the app: exactly WindowBridge. This runs in the sandbox, in a world of its own, and
 * gives the page functions that take and give plain data. The port of a screen cannot pass that way; it goes to the page
 * as a message, which a few lines in the page's own world wait for.
 */
import { contextBridge, ipcRenderer } from 'electron';
import type { CallName, EventName, WindowBridge } from '../../ipc/schema.ts';
import { channels, type ScreenAnswer, type ScreenRequest } from './channels.ts';

type Listener = (event: EventName, value: unknown) => void;

/** What is used of a page's global object; the app's own types are Node's. */
interface Page {
  torpor?: WindowBridge;
  origin: string;
  postMessage(message: unknown, origin: string, ports: readonly unknown[]): void;
  addEventListener(type: 'message', listener: (event: PageMessage) => void): void;
  removeEventListener(type: 'message', listener: (event: PageMessage) => void): void;
}

interface PageMessage {
  source: unknown;
  data: { torporScreen?: number } | null;
  ports: readonly unknown[];
}

const early: [EventName, unknown][] = [];
const listeners = new Set<Listener>();

ipcRenderer.on(channels.event, (_event, name: EventName, value: unknown) => {
  // What is told before the page listens waits for it.
  if (listeners.size === 0) early.push([name, value]);
  for (const listener of listeners) listener(name, value);
});

const parts = {
  call: (name: CallName, args: unknown[]) => ipcRenderer.invoke(channels.call, name, args),
  listen: (listener: Listener) => {
    listeners.add(listener);
    for (const [name, value] of early.splice(0)) listener(name, value);
    return () => {
      listeners.delete(listener);
    };
  },
  /** Resolves when the port is on its way to the page. */
  askForScreen: (request: number, workload: string) =>
    new Promise<void>((resolve, reject) => {
      const receive = (event: { ports: readonly unknown[] }, answer: ScreenAnswer) => {
        if (answer.request !== request) return;
        ipcRenderer.off(channels.screen, receive);
        const page = globalThis as unknown as Page;
        if (answer.error !== undefined) reject(new Error(answer.error));
        else page.postMessage({ torporScreen: request }, page.origin, [event.ports[0]]);
        resolve();
      };
      ipcRenderer.on(channels.screen, receive);
      ipcRenderer.send(channels.openScreen, { request, workload } satisfies ScreenRequest);
    }),
};

contextBridge.executeInMainWorld({
  // Is taken to the page's world as text: it sees nothing of this file.
  func: ({ call, listen, askForScreen }: typeof parts) => {
    const page = globalThis as unknown as Page;
    let last = 0;
    const openScreen = (workload: string) => {
      const request = ++last;
      return new Promise<unknown>((resolve, reject) => {
        const receive = ({ source, data, ports }: PageMessage) => {
          if (source !== page || data?.torporScreen !== request) return;
          page.removeEventListener('message', receive);
          resolve(ports[0]);
        };
        page.addEventListener('message', receive);
        askForScreen(request, workload).catch((error: Error) => {
          page.removeEventListener('message', receive);
          reject(error);
        });
      });
    };
    Object.defineProperty(page, 'torpor', { value: Object.freeze({ call, listen, openScreen }) });
  },
  args: [parts],
});
ipcRenderer.send(channels.opened);

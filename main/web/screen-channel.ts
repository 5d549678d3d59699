/**
 * A capsule's screen in a window: the bytes of its RFB socket, both ways and unchanged. Nothing is collected or delayed, as
 * every key press waits for its echo; the side that reads slowly slows the other one down.
 */
import { connect } from 'node:net';
import type { WebSocket } from 'ws';
import { sentenceOf } from '../../api/errors.ts';
import { closeCodes, keepAlive } from './ipc-channel.ts';

/** So much may be on its way to a window before its screen waits, and so little must be left before it goes on. */
const highBytes = 1 << 20;
const lowBytes = 256 << 10;
/** A close reason may be 123 bytes long. */
const reasonBytes = 123;

/** Serves one screen until either side ends. @param path of the RFB socket; what it rejects with is told the window */
export async function serveScreen(socket: WebSocket, path: Promise<string>): Promise<void> {
  // What the window sends at once waits until the screen is there.
  socket.pause();
  socket.on('error', () => {});
  let screenPath: string;
  try {
    screenPath = await path;
  } catch (error) {
    socket.resume();
    closeWith(socket, sentenceOf(error));
    return;
  }
  if (socket.readyState !== socket.OPEN) return;
  const screen = connect(screenPath);
  screen.on('connect', () => socket.resume());
  screen.on('data', (bytes) => {
    socket.send(bytes, { binary: true, compress: false }, () => {
      if (screen.isPaused() && socket.bufferedAmount < lowBytes) screen.resume();
    });
    if (socket.bufferedAmount > highBytes) screen.pause();
  });
  screen.on('error', () => {});
  screen.on('close', () => {
    socket.resume();
    closeWith(socket, 'The screen has ended.');
  });
  socket.on('message', (data, isBinary) => {
    if (!isBinary) {
      socket.close(closeCodes.notUnderstood, 'A screen takes binary messages only.');
      return;
    }
    if (!screen.write(data as Buffer)) {
      socket.pause();
      screen.once('drain', () => socket.resume());
    }
  });
  socket.once('close', () => screen.destroy());
  keepAlive(socket);
}

function closeWith(socket: WebSocket, sentence: string): void {
  let reason = sentence;
  while (Buffer.byteLength(reason) > reasonBytes) reason = reason.slice(0, -1);
  socket.close(closeCodes.noScreen, reason);
}

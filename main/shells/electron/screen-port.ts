/**
 * A capsule's screen over a MessagePort: the bytes of its RFB socket, both ways and unchanged; null from either side ends
 * it. A port knows no back-pressure; it needs none, as a viewer asks for each update when it has drawn the one before.
 */
import { connect } from 'node:net';
import type { MessagePortMain } from 'electron';

export function serveScreenPort(port: MessagePortMain, path: string): void {
  const screen = connect(path);
  screen.setNoDelay(true);
  screen.on('data', (bytes) => {
    port.postMessage(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  });
  screen.on('error', () => {});
  screen.once('close', () => {
    port.postMessage(null);
    port.close();
  });
  port.on('message', ({ data }) => {
    if (data instanceof ArrayBuffer) screen.write(new Uint8Array(data));
    else screen.destroy();
  });
  port.once('close', () => screen.destroy());
  port.start();
}

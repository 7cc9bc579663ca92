import { startTcpProxy } from './tcp-proxy.js';
import { signal } from './conformance.js';

/**
 * What becomes of LISTEN and of notifications:
 * - `heard`: nothing is taken away.
 * - `dropped`: everything gets through but the notifications.
 * - `refused`: the server answers LISTEN with an error.
 * - `killed`: the connection is cut, and no new one is taken.
 * - `silent`: the connection stays open, and nothing gets through.
 */
export type Hearing = 'heard' | 'dropped' | 'refused' | 'killed' | 'silent';

export interface NotificationProxy {
  readonly port: number;
  /** From now on. */
  become(hearing: Hearing): void;
  /** Resolves once a notification has come here from the server, whatever becomes of it. */
  readonly notified: Promise<void>;
  close(): Promise<void>;
}

/** NotificationResponse of PostgreSQL's protocol. */
const notification = 0x41;

/** A TCP proxy for the connection that listens, without TLS. */
export async function startNotificationProxy(serverPort: number): Promise<NotificationProxy> {
  const notified = signal();
  let now: Hearing = 'heard';
  const proxy = await startTcpProxy(serverPort, (client, server) => {
    if (now === 'killed') client.destroy();
    client.on('data', (bytes) => {
      if (now === 'silent') return;
      // Of the same length, so that the message stays one; the server calls it a syntax error.
      if (now === 'refused' && bytes.includes('LISTEN "')) bytes.write('LOSTEN "', bytes.indexOf('LISTEN "'));
      server.write(bytes);
    });
    let rest = Buffer.alloc(0);
    server.on('data', (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      // A message is a letter, its length without the letter, and its content.
      while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
        const message = rest.subarray(0, 1 + rest.readUInt32BE(1));
        rest = rest.subarray(message.length);
        const isNotification = message[0] === notification;
        if (isNotification) notified.fire();
        if (now !== 'silent' && !(isNotification && now === 'dropped')) client.write(message);
      }
    });
  });
  return {
    port: proxy.port,
    become(hearing) {
      now = hearing;
      if (now === 'killed') proxy.cutAll();
    },
    notified: notified.promise,
    close: () => proxy.close(),
  };
}

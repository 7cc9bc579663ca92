import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

/** A TCP proxy in front of PostgreSQL that counts the waits of its clients. */
export interface TurnProxy {
  readonly port: number;
  /**
   * How often a client has spoken again after it had been answered, over all connections: each is a round trip that somebody waited for. What leaves
   * together, or before the answer to what left earlier, is one.
   */
  readonly turns: () => number;
  close(): Promise<void>;
}

export async function startTurnProxy(serverPort: number): Promise<TurnProxy> {
  const sockets = new Set<Socket>();
  let turns = 0;
  const proxy = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    let isAnswered = true;
    client.on('data', (bytes) => {
      if (isAnswered) turns++;
      isAnswered = false;
      server.write(bytes);
    });
    server.on('data', (bytes) => {
      isAnswered = true;
      client.write(bytes);
    });
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as AddressInfo).port,
    turns: () => turns,
    async close() {
      proxy.close();
      for (const socket of sockets) socket.destroy();
      if (proxy.listening) await once(proxy, 'close');
    },
  };
}

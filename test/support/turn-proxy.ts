import { startTcpProxy } from './tcp-proxy.js';

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
  let turns = 0;
  const proxy = await startTcpProxy(serverPort, (client, server) => {
    server.setNoDelay(true);
    client.setNoDelay(true);
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
  });
  return {
    port: proxy.port,
    turns: () => turns,
    close: () => proxy.close(),
  };
}

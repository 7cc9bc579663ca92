import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** A TCP proxy that can turn into a black hole (connections stay open, or are taken, and nothing gets through), or be slow. */
export interface SilentProxy {
  readonly port: number;
  /** From now on nothing gets through, in either direction. */
  silence(): void;
  /** New connections get through. Those of before stay as they are, as after a router that forgot them. */
  restore(): void;
  /** From now on what the server says comes so much later. */
  delay(ms: number): void;
  close(): Promise<void>;
}

export async function startSilentProxy(serverPort: number): Promise<SilentProxy> {
  const sockets = new Set<Socket>();
  const flowing = new Set<Socket>();
  let isSilent = false;
  let delayMs = 0;
  const proxy = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    }
    if (!isSilent) flowing.add(client);
    client.on('data', (bytes) => flowing.has(client) && server.write(bytes));
    const say = (bytes: Buffer): unknown => flowing.has(client) && client.write(bytes);
    // In its order, whatever the delay becomes.
    let said = Promise.resolve();
    let unsaid = 0;
    const sayLater = async (dueAtMs: number, others: Promise<void>, bytes: Buffer): Promise<void> => {
      await others;
      await pause(Math.max(0, dueAtMs - performance.now()));
      unsaid--;
      say(bytes);
    };
    server.on('data', (bytes) => {
      if (delayMs === 0 && unsaid === 0) {
        say(bytes);
        return;
      }
      unsaid++;
      said = sayLater(performance.now() + delayMs, said, bytes);
    });
    client.on('close', () => server.destroy());
    // That the server has gone does not get through either.
    server.on('close', () => flowing.has(client) && client.destroy());
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as AddressInfo).port,
    silence() {
      isSilent = true;
      flowing.clear();
    },
    restore() {
      isSilent = false;
    },
    delay(ms) {
      delayMs = ms;
    },
    async close() {
      proxy.close();
      for (const socket of sockets) socket.destroy();
      if (proxy.listening) await once(proxy, 'close');
    },
  };
}

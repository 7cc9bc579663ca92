import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

/** A TCP proxy on a free port. Where one side of a connection ends, the other does. */
export interface TcpProxy {
  readonly port: number;
  /** Cuts every connection there is. */
  cutAll(): void;
  close(): Promise<void>;
}

/** `onConnection` passes on what either side says, or does not. */
export async function startTcpProxy(
  serverPort: number,
  onConnection: (client: Socket, server: Socket) => void,
): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  const cutAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const proxy = createServer((client) => {
    const server = connect(serverPort, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    onConnection(client, server);
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as AddressInfo).port,
    cutAll,
    async close() {
      proxy.close();
      cutAll();
      if (proxy.listening) await once(proxy, 'close');
    },
  };
}

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

/**
 * Where the way of a batch is cut, from the node to the server:
 * - `before BEGIN`: the server has nothing of it.
 * - `after reserve`: the server has done it, and the node does not know.
 * - `in the middle of COPY`: the server has half of the first rows, and waits for the rest.
 * - `before COMMIT`: the server has everything but that.
 * - `before the answer to COMMIT`: the server has everything, and the node does not know.
 * - a number: of the bytes from the first BEGIN on, the server has so many.
 */
export type BatchPoint = (typeof batchPoints)[number] | number;
export const batchPoints = [
  'before BEGIN',
  'after reserve',
  'in the middle of COPY',
  'before COMMIT',
  'before the answer to COMMIT',
] as const;

/** A TCP proxy between a node and PostgreSQL that holds back what is on its way when a batch comes to a point. */
export interface StoppingProxy {
  readonly port: number;
  /**
   * Holds the connection that ingest uses, in both directions, at the next `point` of a batch, and calls `onStopped` at that moment, with the bytes
   * of that batch's connection that got through since the first BEGIN.
   */
  stopAt(point: BatchPoint, onStopped: (bytes: number) => void): void;
  /** Lets everything through again, what was held first. */
  release(): void;
  close(): Promise<void>;
}

/** What of `bytes`, the next from the node, still gets through; null: all of it, and there is nothing to stop at. */
function cutOf(point: BatchPoint, bytes: Buffer, passed: number): number | null {
  if (typeof point === 'number') return passed + bytes.length > point ? point - passed : null;
  // What begins a transaction leaves in one write with its first statement.
  const reserve = bytes.includes('SET LOCAL ROLE sluice_ingest');
  const rows = bytes.indexOf('PGCOPY\n');
  // A message's name and length stand before its text.
  const commit = bytes.indexOf('COMMIT\0') - 5;
  const hasCommit = commit >= 0;
  const cuts: Record<(typeof batchPoints)[number], number | null> = {
    'before BEGIN': reserve ? 0 : null,
    'after reserve': reserve ? bytes.length : null,
    'in the middle of COPY': rows >= 0 ? (rows + (hasCommit ? commit : bytes.length)) >> 1 : null,
    'before COMMIT': hasCommit ? commit : null,
    'before the answer to COMMIT': hasCommit ? bytes.length : null,
  };
  return cuts[point];
}

export async function startStoppingProxy(serverPort: number): Promise<StoppingProxy> {
  const sockets = new Set<Socket>();
  let order: { readonly point: BatchPoint; readonly onStopped: (bytes: number) => void } | null = null;
  let releaseHeld: () => void = () => {};
  const proxy = createServer((node) => {
    const server = connect(serverPort, '127.0.0.1');
    for (const socket of [node, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    }
    let ingests = false;
    let passed = 0;
    /** The order for which they are counted. */
    let counted: typeof order = null;
    let held: { readonly toServer: Buffer[]; readonly toNode: Buffer[]; closed: boolean } | null = null;
    const hold = (rest: Buffer): void => {
      const these = { toServer: [rest], toNode: [] as Buffer[], closed: false };
      held = these;
      releaseHeld = () => {
        held = null;
        for (const bytes of these.toServer) server.write(bytes);
        for (const bytes of these.toNode) node.write(bytes);
        if (these.closed) node.end();
      };
    };
    node.on('data', (bytes: Buffer) => {
      if (held !== null) {
        held.toServer.push(bytes);
        return;
      }
      if (bytes.includes('SET LOCAL ROLE')) ingests = bytes.includes('SET LOCAL ROLE sluice_ingest');
      if (counted !== order) passed = 0;
      counted = order;
      const cut = order !== null && ingests ? cutOf(order.point, bytes, passed) : null;
      if (cut === null || order === null) {
        if (ingests) passed += bytes.length;
        server.write(bytes);
        return;
      }
      const { onStopped } = order;
      order = null;
      if (cut > 0) server.write(bytes.subarray(0, cut));
      hold(bytes.subarray(cut));
      onStopped(passed + cut);
    });
    server.on('data', (bytes: Buffer) => {
      if (held === null) node.write(bytes);
      else held.toNode.push(bytes);
    });
    node.on('close', () => server.destroy());
    server.on('close', () => {
      if (held === null) node.end();
      else held.closed = true;
    });
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    port: (proxy.address() as AddressInfo).port,
    stopAt(point, onStopped) {
      order = { point, onStopped };
    },
    release() {
      order = null;
      releaseHeld();
      releaseHeld = () => {};
    },
    async close() {
      proxy.close();
      for (const socket of sockets) socket.destroy();
      if (proxy.listening) await once(proxy, 'close');
    },
  };
}

import { startTcpProxy } from './tcp-proxy.js';

/**
 * What happens to the next COMMIT of an ingest transaction:
 * - `lost`: it never reaches the server, and its connection is cut.
 * - `unanswered`: the server gets it; the answer is swallowed, and the connection is cut when the answer would have arrived.
 * - `blackout`: as `unanswered`, and every other connection is cut, too; new ones are refused until `restore`.
 */
export type CommitFault = 'lost' | 'unanswered' | 'blackout';

/** A TCP proxy in front of PostgreSQL that can break off a COMMIT. */
export interface CommitProxy {
  readonly port: number;
  /** Breaks off the next COMMIT of an ingest transaction. Resolves when that has happened. */
  breakCommit(fault: CommitFault): Promise<void>;
  restore(): void;
  close(): Promise<void>;
}

export async function startCommitProxy(serverPort: number): Promise<CommitProxy> {
  let fault: CommitFault | null = null;
  let done: () => void = () => {};
  let dark = false;
  const proxy = await startTcpProxy(serverPort, (client, server) => {
    if (dark) {
      client.destroy();
      return;
    }
    let ingests = false;
    let answerEnds: (() => void) | null = null;
    client.on('data', (bytes) => {
      if (bytes.includes('SET LOCAL ROLE')) ingests = bytes.includes('sluice_ingest');
      const broken = fault !== null && ingests && bytes.includes('COMMIT\0') ? fault : null;
      if (broken === null) {
        server.write(bytes);
        return;
      }
      fault = null;
      answerEnds = (): void => {
        if (broken === 'blackout') {
          dark = true;
          proxy.cutAll();
        }
        client.destroy();
        done();
      };
      if (broken === 'lost') answerEnds();
      else server.write(bytes);
    });
    server.on('data', (bytes) => {
      if (answerEnds === null) client.write(bytes);
      else answerEnds();
    });
  });
  return {
    port: proxy.port,
    breakCommit(next) {
      fault = next;
      return new Promise((resolve) => {
        done = resolve;
      });
    },
    restore() {
      dark = false;
    },
    close: () => proxy.close(),
  };
}

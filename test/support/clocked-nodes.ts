import { after, before, describe } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { startNode } from './node.js';
import { createStorage, engineNames, stopServers } from './storage.js';
import type { TestStorage } from './storage.js';
import { NodeClock } from './test-clock.js';

/** Nodes on one storage whose time stands still until it is moved: two on PostgreSQL, one on the embedded engine. */
export interface ClockedNodes {
  readonly storage: TestStorage;
  /** Of each node, from `before` on. */
  readonly addresses: () => readonly string[];
  readonly address: () => string;
  readonly advance: (ms: number) => void;
  readonly nowMs: () => number;
}

/** The same tests on each engine. Call it once a file, and await it there. Where the machine has no PostgreSQL, its half is skipped. */
export async function onClockedNodes(tests: (nodes: ClockedNodes) => void): Promise<void> {
  const storages = await Promise.all(engineNames.map(createStorage));
  for (const [i, engine] of engineNames.entries()) {
    const storage = storages[i] ?? null;
    describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
      if (storage !== null) tests(runNodes(storage));
    });
  }
  after(stopServers);
}

function runNodes(storage: TestStorage): ClockedNodes {
  const startedAtMs = Date.now();
  const clocks = (storage.engine === 'postgres' ? [1, 2] : [1]).map(() => new NodeClock(startedAtMs));
  const servers: RunningServer[] = [];
  before(async () => {
    for (const clock of clocks) servers.push(await startNode(storage, {}, clock));
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.stop()));
    await storage.remove();
  });
  return {
    storage,
    addresses: () => servers.map(({ address }) => address),
    address: () => servers[0]?.address ?? '',
    advance(ms) {
      for (const clock of clocks) clock.advance(ms);
    },
    nowMs: () => clocks[0]?.now() ?? 0,
  };
}

import { after, before, describe } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import type { Config } from '../../src/config.js';
import { startNode } from './node.js';
import { createStorage, engineNames, stopServers } from './storage.js';
import type { EngineName, TestStorage } from './storage.js';

/** What the tests of one engine stand on. `node` may be called from `before` on. */
export interface EngineUnderTest {
  readonly engine: EngineName;
  readonly storage: TestStorage;
  readonly node: () => RunningServer;
}

/**
 * The same tests against a node of each engine, in this process, with a storage of its own. Call it once a file, and await it there. Where the
 * machine has no PostgreSQL, its half is skipped.
 */
export async function onEachEngine(overrides: Partial<Config>, tests: (under: EngineUnderTest) => void): Promise<void> {
  const storages = await Promise.all(engineNames.map(createStorage));
  for (const [i, engine] of engineNames.entries()) {
    const storage = storages[i] ?? null;
    describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
      if (storage === null) return;
      let running: RunningServer | undefined;
      before(async () => {
        running = await startNode(storage, overrides);
      });
      after(async () => {
        await running?.stop();
        await storage.remove();
      });
      const node = (): RunningServer => {
        if (running === undefined) throw new Error('the node is not started yet');
        return running;
      };
      tests({ engine, storage, node });
    });
  }
  after(stopServers);
}

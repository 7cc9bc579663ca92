import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { openEmbedded } from '../../src/db/embedded.js';
import { openPostgres } from '../../src/db/postgres.js';
import { startPostgresServer } from './postgres-server.js';
import type { PostgresServer } from './postgres-server.js';

/** Limits small enough to be reached in a test. */
export interface TestLimits {
  readonly waitersMax?: number;
  readonly waitMsMax?: number;
  /** After how long without progress a session is broken off. */
  readonly stallMsMax?: number;
}

/** One engine with an empty database, which can be opened again and again. */
export interface TestEngine {
  readonly name: Database['engine'];
  open(limits?: TestLimits): Promise<Database & { stats(): { sessionsInUse: number; waiting: number } }>;
  remove(): Promise<void>;
}

export async function embeddedEngine(): Promise<TestEngine> {
  const dataDir = await mkdtemp(join(tmpdir(), 'sluice-embedded-'));
  return {
    name: 'embedded',
    open: ({ stallMsMax, ...limits } = {}) =>
      openEmbedded({
        dataDir,
        clock: systemClock,
        onLog: () => {},
        onLockLost: (reason) => {
          throw new Error(reason);
        },
        ...limits,
        ...(stallMsMax !== undefined && { statementTimeoutMs: stallMsMax }),
      }),
    remove: () => rm(dataDir, { recursive: true, force: true }),
  };
}

/** Null where there is no PostgreSQL; an error on CI, where there has to be one. */
export async function postgresEngine(): Promise<
  (TestEngine & { readonly server: PostgresServer; readonly url: string }) | null
> {
  const server = await startPostgresServer();
  if (!server) {
    if (process.env['CI']) throw new Error('CI must have PostgreSQL: install its server binaries');
    return null;
  }
  const url = await server.createDatabase();
  return {
    name: 'postgres',
    server,
    url,
    open: (limits = {}) => openPostgres({ url, clock: systemClock, onLog: () => {}, ...limits }),
    remove: () => server.stop(),
  };
}

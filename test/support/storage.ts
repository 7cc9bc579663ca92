import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../../src/config.js';
import { unpackArchive } from '../../src/db/embedded-archive.js';
import { startOwnPostgresServer, startPostgresServer } from './postgres-server.js';
import type { PostgresServer } from './postgres-server.js';

export type EngineName = 'embedded' | 'postgres';
export const engineNames: readonly EngineName[] = ['embedded', 'postgres'];

/** A place to store in that holds nothing of anybody, of which any number of nodes (one, on the embedded engine) can be started, one after the other or at once. */
export interface TestStorage {
  readonly engine: EngineName;
  readonly config: Pick<Config, 'dataDir' | 'databaseUrl'>;
  remove(): Promise<void>;
}

let postgres: Promise<PostgresServer | null> | undefined;

/** Null where the machine has no PostgreSQL (on CI that is an error): the caller skips, and `npm test` says loudly what went unproven. */
export async function createStorage(engine: EngineName): Promise<TestStorage | null> {
  return storageOn(engine, startPostgresServer);
}

/** As `createStorage`, on a PostgreSQL that no other file uses: for those who read what a whole server counts. */
export async function createOwnStorage(engine: EngineName): Promise<TestStorage | null> {
  return storageOn(engine, startOwnPostgresServer);
}

async function storageOn(engine: EngineName, start: typeof startPostgresServer): Promise<TestStorage | null> {
  if (engine === 'embedded') return embeddedStorage();
  postgres ??= start();
  const server = await postgres;
  if (server === null) {
    if (process.env['CI']) throw new Error('CI must have PostgreSQL: install its server binaries');
    return null;
  }
  const databaseUrl = await server.createDatabase();
  return {
    engine,
    config: { dataDir: join(tmpdir(), 'sluice-unused'), databaseUrl },
    remove: () => Promise.resolve(),
  };
}

/** Stops the PostgreSQL that this process started, if it did. Call it in the file's last `after`. */
export async function stopServers(): Promise<void> {
  const server = await postgres;
  postgres = undefined;
  await server?.stop();
}

async function embeddedStorage(): Promise<TestStorage> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-test-'));
  const dataDir = join(folder, 'data');
  const cluster = join(dataDir, 'pg');
  await mkdir(cluster, { recursive: true, mode: 0o700 });
  // As a first start does, but nothing is synced: the folder need not outlive this machine.
  const unfit = await unpackArchive(cluster);
  if (unfit !== undefined) throw new Error(unfit);
  return {
    engine: 'embedded',
    config: { dataDir, databaseUrl: null },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

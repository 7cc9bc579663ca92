import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEmbedded } from '../../src/db/embedded.js';
import { systemClock } from '../../src/clock.js';
import type { Config } from '../../src/config.js';
import { startPostgresServer } from './postgres-server.js';
import type { PostgresServer } from './postgres-server.js';

export type EngineName = 'embedded' | 'postgres';
export const engineNames: readonly EngineName[] = ['embedded', 'postgres'];

/** An empty place to store in, of which any number of nodes (one, on the embedded engine) can be started, one after the other or at once. */
export interface TestStorage {
  readonly engine: EngineName;
  readonly config: Pick<Config, 'dataDir' | 'databaseUrl'>;
  remove(): Promise<void>;
}

let postgres: Promise<PostgresServer | null> | undefined;

/** Null where the machine has no PostgreSQL (on CI that is an error): the caller skips, and `npm test` says loudly what went unproven. */
export async function createStorage(engine: EngineName): Promise<TestStorage | null> {
  if (engine === 'embedded') return embeddedStorage();
  postgres ??= startPostgresServer();
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

/** Stops the PostgreSQL that this process started and removes the empty cluster that it made, if it did. Call it in the file's last `after`. */
export async function stopServers(): Promise<void> {
  const server = await postgres;
  postgres = undefined;
  await server?.stop();
  const made = await template;
  template = undefined;
  if (made !== undefined) await rm(made, { recursive: true, force: true });
}

async function embeddedStorage(): Promise<TestStorage> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-test-'));
  const dataDir = join(folder, 'data');
  await mkdir(dataDir, { mode: 0o700 });
  await cp(join(await embeddedTemplate(), 'pg'), join(dataDir, 'pg'), { recursive: true });
  return {
    engine: 'embedded',
    config: { dataDir, databaseUrl: null },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

let template: Promise<string> | undefined;

/**
 * A data folder with an empty cluster. Making one takes seconds, so all test files of a run share the one that `npm test` made and named in
 * `SLUICE_TEST_EMBEDDED_TEMPLATE`; a file that runs alone makes its own.
 */
function embeddedTemplate(): Promise<string> {
  const given = process.env['SLUICE_TEST_EMBEDDED_TEMPLATE'];
  if (given !== undefined && given !== '') return Promise.resolve(given);
  template ??= createEmbeddedTemplate();
  return template;
}

export async function createEmbeddedTemplate(): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'sluice-template-'));
  const database = await openEmbedded({
    dataDir,
    clock: systemClock,
    onLog: () => {},
    onLockLost: (reason) => {
      throw new Error(reason);
    },
  });
  await database.close();
  return dataDir;
}

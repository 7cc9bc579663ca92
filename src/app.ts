/** A server: opens the database and, while that takes its time, loads the rest of the program; then composes the two. */
import type { Clock } from './clock.js';
import { systemClock } from './clock.js';
import type { Config } from './config.js';
import type { Database } from './db/database.js';
import type { EmbeddedDatabase } from './db/embedded.js';
import type { PoolStats } from './db/session-pool.js';
import type { Logger } from './log.js';
import type { Siblings } from './siblings.js';
import type { AdminToken, FirstStart } from './tenancy/first-start.js';

export type { Config } from './config.js';

export interface RunningServer {
  /** `http://host:port` */
  readonly address: string;
  readonly engine: Database['engine'];
  readonly role: Config['role'];
  /** Absolute; null on PostgreSQL. */
  readonly dataDir: string | null;
  readonly adminToken: AdminToken;
  /** The demo org's key, which can be shown only now. */
  readonly firstStart: FirstStart | null;
  /** The key has been shown: the next start shows none. */
  announced(): Promise<void>;
  /** Not ready, drain, flush. Idempotent. */
  stop(): Promise<void>;
}

export type DatabaseStats = () => PoolStats;

/**
 * Opens the database, brings its schema up to date and listens. Resolves when events can be taken. On a failure everything that was
 * started is stopped again. With `siblings` it is one of several processes that share the port, and `prepareStorage` has been called.
 */
export async function startServer(
  config: Config,
  log: Logger,
  onProgress: (text: string) => void,
  clock: Clock = systemClock,
  siblings?: Siblings,
): Promise<RunningServer> {
  // Loading the rest takes as long as opening does, so the two go side by side; but not before the engine's thread has got its work, since
  // loading leaves this thread no time to give it.
  let begin: (() => void) | undefined;
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const opening = openDatabase(config, log, onProgress, clock, () => begin?.(), {
    processes: config.workers,
    isWarned: siblings !== undefined,
  });
  const loading = Promise.race([begun, opening]).then(() => import('./compose.js'));
  loading.catch(() => {});
  const { database, ...parts } = await opening;
  try {
    const { composeServer } = await loading;
    return await composeServer({ config, log, onProgress, clock, database, siblings, ...parts });
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** What is done once for all processes of a node: the database is looked at, what is to be said of it is said, its schema is brought up to date. */
export async function prepareStorage(
  config: Config,
  log: Logger,
  onProgress: (text: string) => void,
  clock: Clock = systemClock,
): Promise<void> {
  const node = { processes: config.workers, isWarned: false };
  const { database } = await openDatabase(config, log, onProgress, clock, () => {}, node);
  try {
    const { bringUpSchema } = await import('./db/migrate.js');
    await bringUpSchema(database, config.migrate, onProgress);
  } finally {
    await database.close();
  }
}

/** The database that the settings name, as whatever works on it opens it. Its schema is as it was left. */
export async function openDatabase(
  config: Config,
  log: Logger,
  onProgress: (text: string) => void,
  clock: Clock,
  onBusy: () => void,
  node: { readonly processes: number; readonly isWarned: boolean } = { processes: 1, isWarned: false },
): Promise<OpenDatabase> {
  const onLog = (line: string): void => {
    // What the engine says in the ordinary course of a start is for whoever looks for it.
    log[/PANIC|FATAL|ERROR|WARNING|fail|stopped|lost/.test(line) ? 'warn' : 'debug']({ part: 'database' }, line);
  };
  if (config.databaseUrl !== null) {
    onBusy();
    const { openPostgres } = await import('./db/postgres.js');
    const { databaseUrl: url, dbPool: sessionsMax, ingestLanes } = config;
    const listenUrl = config.listenUrl ?? undefined;
    const database = await openPostgres({ url, listenUrl, clock, onLog, sessionsMax, ingestLanes, ...node });
    return { database, stats: () => database.stats(), embedded: null, ingestLanes: database.ingestLanes };
  }
  const { openEmbedded } = await import('./db/embedded.js');
  const onSpace = (isShort: boolean, freeBytes: number): void => {
    if (isShort) log.warn({ freeBytes }, 'the file system of the data folder is nearly full: events are refused');
    else log.info({ freeBytes }, 'the file system of the data folder has room again: events are taken');
  };
  const hooks = { onLog, onProgress, onLockLost, onLost, onBusy, onSpace };
  const database = await openEmbedded({ dataDir: config.dataDir, clock, ...hooks });
  return { database, stats: () => database.stats(), embedded: database, ingestLanes: 1 };
}

export interface OpenDatabase {
  readonly database: Database;
  readonly stats: DatabaseStats;
  /** The same database, if it is the embedded one. */
  readonly embedded: EmbeddedDatabase | null;
  /** How many batches may be stored at once. */
  readonly ingestLanes: number;
}

/** Another process may be writing by now. */
function onLockLost(reason: string): void {
  onLost(`the data folder is no longer this process's: ${reason}`);
}

/** Nothing here can go on, so the process ends as it does for any unexpected failure. */
function onLost(reason: string): void {
  setImmediate(() => {
    throw new Error(reason);
  });
}

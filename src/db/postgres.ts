import type { Clock } from '../clock.js';
import { StorageError } from './database.js';
import type { Database, QueryResult, Scope, Statement, Transaction } from './database.js';
import { parsePostgresUrl } from '../postgres-url.js';
import { PostgresListener } from './postgres-listener.js';
import type { PoolStats } from './session-pool.js';
import type { PostgresListenerOptions } from './postgres-listener.js';
import { PrimaryConnector } from './postgres-primary.js';
import { budgetWarning, durabilityWarning, listenThroughPooler, pooledWithoutListen } from './server-check.js';
import { serverRefusal } from './server-check.js';
import { SessionPool } from './session-pool.js';
import type { RunText } from './sql/server.js';
import { forgetsStatements } from './wire-errors.js';
import { readServerFacts, tracksStatements } from './sql/server.js';
import type { WireSession } from './wire-session.js';

export interface PostgresOptions {
  /** `postgres://user:password@host:port/database`, as `parsePostgresUrl` reads it; with several hosts, whichever takes writes. */
  readonly url: string;
  /** The same database without a pooler in between, for LISTEN. Default `url`. */
  readonly listenUrl?: string | undefined;
  readonly clock: Clock;
  /** What happens to the connections and nobody else hears of. Holds neither the password nor stored data. */
  readonly onLog: (line: string) => void;
  /** All sessions of this process but the one that listens; some of them are for ingest alone. Default 10, at least 2. */
  readonly sessionsMax?: number;
  /** How many of them are for ingest alone, one for each lane. Default 1, less than `sessionsMax`. */
  readonly ingestLanes?: number;
  /** Processes of this node that open as many. Default 1. */
  readonly processes?: number;
  /** Whether what is weaker than an operator may think has been said by another process of this node. Default false. */
  readonly isWarned?: boolean;
  /** Default 10,000. */
  readonly waitersMax?: number;
  /** Longest wait for a session. Default 5,000. */
  readonly waitMsMax?: number;
  /** No answer for this long costs the connection. Longer than the server's own limits, which end a statement cleanly. Default 15,000. */
  readonly stallMsMax?: number;
}

const closeGraceMs = 10_000;
/** For one statement outside of transactions: the time in which an index of a large table is built. */
const outsideMsMax = 12 * 3_600_000;

/** Connects to a PostgreSQL server. Rejects with a `StorageError` of kind `unavailable` when it cannot be reached. */
export async function openPostgres(options: PostgresOptions): Promise<PostgresDatabase> {
  const database = new PostgresDatabase(options);
  try {
    await database.start();
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/** A PostgreSQL server as a `Database`: a pool for everybody, and a session for each lane of ingest, so that reads cannot starve it, nor one lane the others. */
export class PostgresDatabase implements Database {
  readonly engine = 'postgres';
  readonly #connector: PrimaryConnector;
  readonly #hasListenUrl: boolean;
  readonly #pool: SessionPool;
  readonly #ingestLanes: readonly SessionPool[];
  readonly #listener: PostgresListener;
  readonly #outside: SessionPool;
  readonly #onLog: PostgresOptions['onLog'];
  /** All connections of this process, the one that listens included. */
  readonly #connectionsMax: number;
  /** Until it is known how a pooler treats them, if there is one. */
  #namesStatements = true;
  readonly #processes: number;
  readonly #isWarned: boolean;
  #closing: Promise<void> | undefined;

  /** Use `openPostgres`. */
  constructor({
    url,
    listenUrl,
    clock,
    onLog,
    sessionsMax = 10,
    ingestLanes = 1,
    processes = 1,
    isWarned = false,
    waitersMax = 10_000,
    waitMsMax = 5_000,
    stallMsMax = 15_000,
  }: PostgresOptions) {
    const address = parsePostgresUrl(url);
    this.#connector = new PrimaryConnector(address);
    this.#hasListenUrl = listenUrl !== undefined;
    const sessionOptions = { clock, stallMsMax, namesStatements: () => this.#namesStatements };
    const limits = { clock, waitersMax, waitMsMax, open: () => this.#connector.open(sessionOptions) };
    const direct = new PrimaryConnector(listenUrl === undefined ? address : parsePostgresUrl(listenUrl));
    const openListener: PostgresListenerOptions['open'] = async (onNotification) => {
      const session = await direct.open({ clock, stallMsMax, onNotification });
      if (!direct.isPooled) return session;
      session.destroy(new Error(listenThroughPooler));
      throw new StorageError('sql', listenThroughPooler);
    };
    // Its limits are set for the session, which a pooler does not keep.
    const openOutside = (): Promise<WireSession> => direct.open({ clock, stallMsMax: outsideMsMax + stallMsMax });
    this.#onLog = onLog;
    this.#connectionsMax = Math.max(2, sessionsMax) + 1;
    const lanes = Math.max(1, Math.min(ingestLanes, sessionsMax - 1));
    this.#pool = new SessionPool({ ...limits, sessionsMax: Math.max(1, sessionsMax - lanes) });
    this.#ingestLanes = Array.from({ length: lanes }, () => new SessionPool({ ...limits, sessionsMax: 1 }));
    this.#processes = processes;
    this.#isWarned = isWarned;
    this.#outside = new SessionPool({ ...limits, sessionsMax: 1, open: openOutside });
    this.#listener = new PostgresListener({ clock, onLog, open: openListener });
  }

  /**
   * Opens the first session, so that a wrong address is known at once, and reads what the server promises. Rejects with a sentence when it cannot be
   * used; warns once of what is weaker than an operator may think, unless that was done.
   */
  async start(): Promise<void> {
    await this.#pool.prepare();
    const facts = await this.#pool.use('read', (session) => {
      const run: RunText = (text) => session.run(text);
      return readServerFacts(run);
    });
    const { isPooled } = this.#connector;
    // How many connections a pooler makes of them, it knows alone.
    const connections = isPooled ? 0 : this.#processes * this.#connectionsMax;
    const refusal = serverRefusal(facts, connections, this.#processes);
    if (refusal !== null) throw new StorageError('sql', refusal);
    if (isPooled) this.#namesStatements = await this.#tracksStatements();
    if (this.#isWarned) return;
    const pooler = isPooled && !this.#hasListenUrl ? pooledWithoutListen : null;
    for (const warning of [durabilityWarning(facts), budgetWarning(facts, connections, this.#processes), pooler]) {
      if (warning !== null) this.#onLog(`WARNING: ${warning}`);
    }
  }

  async #tracksStatements(): Promise<boolean> {
    try {
      return await this.#pool.transaction({ role: 'owner' }, tracksStatements);
    } catch (error) {
      if (error instanceof StorageError && forgetsStatements(error.cause)) return false;
      throw error;
    }
  }

  transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.#poolOf(scope).transaction(scope, work);
  }

  query<Row = Record<string, unknown>>(
    scope: Scope,
    statement: Statement,
    values?: readonly unknown[],
  ): Promise<QueryResult<Row>> {
    if (scope.outsideTransaction === true) return this.#runOutside<Row>(statement.text);
    return this.#poolOf(scope).query<Row>(scope, statement, values);
  }

  /** On a session of its own, which is not kept: its limits fit nobody else. */
  #runOutside<Row>(text: string): Promise<QueryResult<Row>> {
    return this.#outside.use('write', async (session) => {
      try {
        // It may wait long for a lock, too: nothing but other changes of the schema queues behind it.
        await session.run(`SET statement_timeout = ${outsideMsMax}; SET lock_timeout = ${outsideMsMax}`);
        await session.run(text);
        return { rows: [], rowCount: 0 };
      } finally {
        await session.end();
      }
    });
  }

  /** Through a pooler without a direct address nothing is heard: those who wait look by themselves now and then. */
  listen(channel: string, onNotify: (payload: string) => void, onGap?: () => void): Promise<() => Promise<void>> {
    if (this.#closing) return Promise.reject(new StorageError('unavailable', 'the database is closed'));
    if (this.#connector.isPooled && !this.#hasListenUrl) return Promise.resolve(() => Promise.resolve());
    return this.#listener.listen(channel, onNotify, onGap);
  }

  /** How many batches it stores at once. */
  get ingestLanes(): number {
    return this.#ingestLanes.length;
  }

  stats(): PoolStats {
    return {
      ...this.#pool.stats(),
      sessionsInUse: this.#ingestLanes.reduce((sum, lane) => sum + lane.inUse, this.#pool.inUse),
      waiting: this.#ingestLanes.reduce((sum, lane) => sum + lane.waiting, this.#pool.waiting),
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #poolOf({ role, lane = 0 }: Scope): SessionPool {
    return role === 'ingest' ? this.#laneOf(lane) : this.#pool;
  }

  #laneOf(lane: number): SessionPool {
    return this.#ingestLanes[lane % this.#ingestLanes.length] as SessionPool;
  }

  async #close(): Promise<void> {
    await Promise.all([
      this.#listener.close(),
      this.#pool.close(closeGraceMs),
      ...this.#ingestLanes.map((lane) => lane.close(closeGraceMs)),
      this.#outside.close(closeGraceMs),
    ]);
  }
}

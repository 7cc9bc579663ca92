import { resolve } from 'node:path';
import type { Clock } from '../clock.js';
import { ChannelHandlers, listenText } from './channels.js';
import { StorageError } from './database.js';
import type { Database, QueryResult, Scope, Statement, Transaction } from './database.js';
import { ensureCluster, ensureFolder } from './embedded-folder.js';
import { compileEngine, EngineProcess } from './embedded-process.js';
import { verifyDurability } from './embedded-self-test.js';
import { lockFolder } from './folder-lock.js';
import type { FolderLock } from './folder-lock.js';
import { SessionPool } from './session-pool.js';
import type { WireSession } from './wire-session.js';

export interface EmbeddedOptions {
  readonly dataDir: string;
  readonly clock: Clock;
  /** A line of the engine's log. It never holds what tenants store. */
  readonly onLog: (line: string) => void;
  /** What a first start, which takes seconds, is doing. */
  readonly onProgress?: (text: string) => void;
  /** The engine's thread has got its work: from now on this thread is free until it is done. */
  readonly onBusy?: () => void;
  /** The folder is no longer ours: the engine has been stopped, and the process must end. */
  readonly onLockLost: (reason: string) => void;
  /** A statement that takes longer costs the engine its thread, and the folder is opened anew. Default 10,000. */
  readonly statementTimeoutMs?: number;
  /** Longest wait for the one session. Default 5,000. */
  readonly waitMsMax?: number;
  /** How many may wait for it. Default 10,000. */
  readonly waitersMax?: number;
  /** False in one test only, which shows that an engine that does not sync is refused. */
  readonly syncFiles?: boolean;
}

/** The pause before the folder is opened again after an opening that failed, by the number of failures in a row; then the last. */
const reopenPauseMs = [0, 100, 500, 2_000, 10_000];

const closeGraceMs = 10_000;

/**
 * Opens the embedded engine in `dataDir`, making the folder if need be. Work begins before this returns: call it as early as possible. Rejects
 * with a `StorageError` when the folder is in use, the engine does not start, or it is found not to sync to disk.
 */
export async function openEmbedded(options: EmbeddedOptions): Promise<EmbeddedDatabase> {
  const module = compileEngine();
  const spawn = (): EngineProcess =>
    new EngineProcess({
      module,
      syncFiles: options.syncFiles ?? true,
      onLog: options.onLog,
      onBusy: options.onBusy,
    });
  const engine = spawn();
  const wire = import('./wire-session.js');
  // Either may fail before anything waits for it; whoever waits then gets the failure.
  for (const early of [module, wire]) early.catch(() => {});
  const dataDir = resolve(options.dataDir);
  let lock: FolderLock | undefined;
  let database: EmbeddedDatabase | undefined;
  try {
    await ensureFolder(dataDir);
    const onLost = (reason: string): void => {
      void database?.abandon();
      options.onLockLost(reason);
    };
    lock = await lockFolder(dataDir, { clock: options.clock, onLost });
    let first: EngineProcess | undefined = engine;
    const cluster = await ensureCluster(dataDir, async (folder) => {
      options.onProgress?.('making the database, once; this takes some seconds');
      first = undefined;
      await engine.create(folder);
    });
    const { WireSession: Session } = await wire;
    database = new EmbeddedDatabase(options, lock, (onNotification) => {
      const next = first ?? spawn();
      first = undefined;
      return openEngine(next, cluster, Session, options, onNotification);
    });
    await database.start();
    return database;
  } catch (error) {
    await database?.close();
    await engine.terminate();
    await lock?.release();
    throw error;
  }
}

interface OpenEngine {
  readonly engine: EngineProcess;
  readonly session: WireSession;
}

type OnNotification = (channel: string, payload: string) => void;

async function openEngine(
  engine: EngineProcess,
  cluster: string,
  Session: typeof WireSession,
  options: EmbeddedOptions,
  onNotification: OnNotification,
): Promise<OpenEngine> {
  await engine.open(cluster);
  const session = await Session.open(
    // Everything is given, so that no PG* variable of the environment reaches the engine.
    {
      stream: () => engine.stream,
      user: 'postgres',
      database: 'postgres',
      host: 'embedded',
      port: 5432,
      ssl: false,
      options: ' ',
    },
    { clock: options.clock, stallMsMax: options.statementTimeoutMs ?? 10_000, onNotification },
  );
  try {
    await verifyDurability(session, () => engine.fsyncs);
  } catch (error) {
    session.destroy(new Error('the session could not be put to use', { cause: error }));
    await session.ended;
    throw error;
  }
  return { engine, session };
}

/** The embedded engine as a `Database`: one session, reads before writes; an engine that dies is replaced by itself. */
export class EmbeddedDatabase implements Database {
  readonly engine = 'embedded';
  readonly #options: EmbeddedOptions;
  readonly #lock: FolderLock;
  readonly #openEngine: (onNotification: OnNotification) => Promise<OpenEngine>;
  readonly #pool: SessionPool;
  readonly #channels = new ChannelHandlers();
  #current: OpenEngine | undefined;
  #pastFsyncs = 0;
  #opens = 0;
  #failures = 0;
  #failedAt = -Infinity;
  #closing: Promise<void> | undefined;

  /** Use `openEmbedded`. */
  constructor(
    options: EmbeddedOptions,
    lock: FolderLock,
    open: (onNotification: OnNotification) => Promise<OpenEngine>,
  ) {
    this.#options = options;
    this.#lock = lock;
    this.#openEngine = open;
    this.#pool = new SessionPool({
      clock: options.clock,
      sessionsMax: 1,
      waitersMax: options.waitersMax ?? 10_000,
      waitMsMax: options.waitMsMax ?? 5_000,
      open: () => this.#open(),
    });
  }

  /** Opens the engine for the first time. */
  async start(): Promise<void> {
    await this.#pool.prepare();
  }

  transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.#pool.transaction(scope, work);
  }

  query<Row = Record<string, unknown>>(
    scope: Scope,
    statement: Statement,
    values?: readonly unknown[],
  ): Promise<QueryResult<Row>> {
    return this.#pool.query<Row>(scope, statement, values);
  }

  listen(channel: string, onNotify: (payload: string) => void, onGap?: () => void): Promise<() => Promise<void>> {
    return this.#channels.add(channel, { onNotify, onGap }, (text) =>
      this.#pool.use('read', async (session) => void (await session.run(text))),
    );
  }

  stats(): { sessionsInUse: number; waiting: number; fsyncs: number; reopens: number } {
    return {
      sessionsInUse: this.#pool.inUse,
      waiting: this.#pool.waiting,
      fsyncs: this.#pastFsyncs + (this.#current?.engine.fsyncs ?? 0),
      reopens: Math.max(0, this.#opens - 1),
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#pool.close(closeGraceMs).then(() => this.#lock.release());
    return this.#closing;
  }

  /** As `close`, but stops the engine at once, without another write to the folder. */
  abandon(): Promise<void> {
    this.#closing ??= Promise.resolve(this.#current?.engine.terminate())
      .then(() => this.#pool.close(0))
      .then(() => this.#lock.release());
    return this.#closing;
  }

  async #open(): Promise<WireSession> {
    const { clock } = this.#options;
    const pause = reopenPauseMs[Math.min(this.#failures, reopenPauseMs.length - 1)] ?? 0;
    if (clock.monotonic() - this.#failedAt < pause) {
      throw new StorageError('unavailable', 'the database engine does not start; it is tried again shortly');
    }
    try {
      const opened = await this.#openEngine((channel, payload) => this.#channels.notify(channel, payload));
      this.#begin(opened);
      await this.#listenAgain(opened.session);
      this.#failures = 0;
      return opened.session;
    } catch (error) {
      this.#failures++;
      this.#failedAt = clock.monotonic();
      throw error;
    }
  }

  #begin(opened: OpenEngine): void {
    const { session, engine } = opened;
    this.#current = opened;
    this.#opens++;
    void this.#replaceWhenGone(session, engine);
  }

  async #replaceWhenGone(session: WireSession, engine: EngineProcess): Promise<void> {
    await session.ended;
    this.#pastFsyncs += engine.fsyncs;
    this.#current = undefined;
    this.#reopen();
  }

  async #listenAgain(session: WireSession): Promise<void> {
    const text = listenText(this.#channels.names);
    if (text === '') return;
    try {
      await session.run(text);
    } catch (error) {
      session.destroy(new Error('the session could not be put to use', { cause: error }));
      await session.ended;
      throw error;
    }
    this.#channels.gap();
  }

  /** Opens the folder again without waiting for somebody to need it, until it is open or the database is closed. */
  #reopen(): void {
    if (this.#closing) return;
    this.#pool.prepare().catch((error: unknown) => {
      if (this.#closing) return;
      this.#options.onLog(`opening the data folder again failed: ${String(error)}`);
      this.#options.clock.after(reopenPauseMs[Math.min(this.#failures, reopenPauseMs.length - 1)] ?? 0, () =>
        this.#reopen(),
      );
    });
  }
}

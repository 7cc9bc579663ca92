import { resolve } from 'node:path';
import type { Clock } from '../clock.js';
import { ChannelHandlers, listenText } from './channels.js';
import { StorageError } from './database.js';
import type { Database, QueryResult, Scope, Statement, Transaction } from './database.js';
import { unpackArchive } from './embedded-archive.js';
import { DiskSpace } from './disk-space.js';
import { ensureCluster, ensureFolder, removeEngineLock } from './embedded-folder.js';
import { compileEngine, EngineProcess } from './embedded-process.js';
import { verifyDurability } from './embedded-self-test.js';
import { lockFolder } from './folder-lock.js';
import type { FolderLock } from './folder-lock.js';
import type { PoolStats } from './session-pool.js';
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
  /** The folder cannot be opened again, however often it was tried: the process should end, and says what to do. Work is refused from then on. */
  readonly onLost?: (reason: string) => void;
  /** A statement that takes longer, though the disk keeps nobody waiting, costs the engine its thread, and the folder is opened anew. Default 2,000. */
  readonly statementTimeoutMs?: number;
  /** Told when space on the file system becomes short, and when it is enough again. */
  readonly onSpace?: (isShort: boolean, freeBytes: number) => void;
  /** Space on the file system below which events should be refused. Default: the larger of 512 MiB and 5 %. */
  readonly freeBytesMin?: () => number;
  /** Longest wait for the one session. Default 5,000. */
  readonly waitMsMax?: number;
  /** How many may wait for it. Default 10,000. */
  readonly waitersMax?: number;
  /** False in one test only, which shows that an engine that does not sync is refused. */
  readonly syncFiles?: boolean;
}

/** The pause before the folder is opened again after an opening that failed, by the number of failures in a row; then the last. */
const reopenPauseMs = [0, 100, 500, 1_000];
/** After so many failures in a row, with room on the disk, nobody believes any more that the next one helps. */
const reopenFailuresMax = 10;
/** An engine without this much room would only fail again. */
const reopenFreeBytesMin = 32 * 1024 * 1024;
const ownerStatementMsMax = 600_000;

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
    // A thread that is loaded and has no folder yet: for the first opening, later for that after a statement which seems not to end.
    let spare: EngineProcess | undefined = engine;
    const forgetWhenGone = async (thread: EngineProcess): Promise<void> => {
      await thread.exited;
      if (spare === thread) spare = undefined;
    };
    const keepSpare = (): void => {
      if (spare !== undefined) return;
      try {
        spare = spawn();
        void forgetWhenGone(spare);
      } catch (error) {
        // It is only a head start: without it the next opening makes its own thread.
        options.onLog(`no spare thread for the database engine: ${String(error)}`);
      }
    };
    const cluster = await ensureCluster(dataDir, async (folder) => {
      const unfit = await unpackArchive(folder);
      if (unfit === undefined) return;
      options.onProgress?.(`${unfit}: making one, which takes some seconds, once`);
      spare = undefined;
      await engine.create(folder);
    });
    const { WireSession: Session } = await wire;
    const openNext = (onNotification: OnNotification): Promise<OpenEngine> => {
      const next = spare ?? spawn();
      spare = undefined;
      return openEngine(next, cluster, Session, { ...options, keepSpare }, onNotification);
    };
    const endSpare = async (): Promise<void> => spare?.terminate();
    database = new EmbeddedDatabase(options, lock, openNext, endSpare);
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
  options: EmbeddedOptions & { readonly keepSpare: () => void },
  onNotification: OnNotification,
): Promise<OpenEngine> {
  await removeEngineLock(cluster);
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
    {
      clock: options.clock,
      stallMsMax: options.statementTimeoutMs ?? 2_000,
      ownerStallMsMax: options.statementTimeoutMs ?? ownerStatementMsMax,
      onHalfStalled: options.keepSpare,
      waitsForDisk: () => engine.isSyncing,
      onNotification,
    },
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
  readonly #endSpare: () => Promise<void>;
  readonly #pool: SessionPool;
  readonly #channels = new ChannelHandlers();
  readonly #space: DiskSpace;
  #current: OpenEngine | undefined;
  #pastFsyncs = 0;
  #opens = 0;
  #failures = 0;
  #failedAt = -Infinity;
  #lastFailure: unknown;
  #closing: Promise<void> | undefined;

  /** Use `openEmbedded`. */
  constructor(
    options: EmbeddedOptions,
    lock: FolderLock,
    open: (onNotification: OnNotification) => Promise<OpenEngine>,
    endSpare: () => Promise<void>,
  ) {
    this.#options = options;
    this.#lock = lock;
    this.#openEngine = open;
    this.#endSpare = endSpare;
    this.#space = new DiskSpace({
      folder: options.dataDir,
      clock: options.clock,
      onChange: options.onSpace ?? (() => {}),
      freeBytesMin: options.freeBytesMin,
    });
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
    await Promise.all([this.#space.start(), this.#pool.prepare()]);
  }

  transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.#pool.transaction(scope, work);
  }

  query<Row = Record<string, unknown>>(
    scope: Scope,
    statement: Statement,
    values?: readonly unknown[],
  ): Promise<QueryResult<Row>> {
    if (scope.outsideTransaction === true) return this.maintain(statement.text).then(() => ({ rows: [], rowCount: 0 }));
    return this.#pool.query<Row>(scope, statement, values);
  }

  listen(channel: string, onNotify: (payload: string) => void, onGap?: () => void): Promise<() => Promise<void>> {
    return this.#channels.add(channel, { onNotify, onGap }, (text) =>
      this.#pool.use('read', async (session) => void (await session.run(text))),
    );
  }

  stats(): PoolStats & { fsyncs: number; reopens: number; memoryBytes: number } {
    return {
      ...this.#pool.stats(),
      fsyncs: this.fsyncs,
      reopens: Math.max(0, this.#opens - 1),
      memoryBytes: this.#current?.engine.memoryBytes ?? 0,
    };
  }

  /** File syncs so far. */
  get fsyncs(): number {
    return this.#pastFsyncs + (this.#current?.engine.fsyncs ?? 0);
  }

  /** Whether a read has waited since the last write began: then batches should be short. */
  get readsWait(): boolean {
    return this.#pool.readsWait;
  }

  /** Room on the file system of the data folder. */
  get space(): DiskSpace {
    return this.#space;
  }

  /** One statement outside of any transaction, as the owner: what a server's own processes would do. `onDone` is told how long nobody else was served for it. */
  maintain<Row>(text: string, onDone: (seconds: number) => void = () => {}): Promise<Row[]> {
    const { clock } = this.#options;
    return this.#pool.use('write', async (session) => {
      const startedAtMs = clock.monotonic();
      const rows = await session.run<Row>(text);
      onDone((clock.monotonic() - startedAtMs) / 1000);
      return rows;
    });
  }

  close(): Promise<void> {
    this.#space.stop();
    this.#closing ??= this.#end(closeGraceMs);
    return this.#closing;
  }

  /** As `close`, but stops the engine at once, without another write to the folder. */
  abandon(): Promise<void> {
    this.#space.stop();
    this.#closing ??= Promise.resolve(this.#current?.engine.terminate()).then(() => this.#end(0));
    return this.#closing;
  }

  async #end(graceMs: number): Promise<void> {
    await this.#pool.close(graceMs);
    await this.#endSpare();
    await this.#lock.release();
  }

  async #open(): Promise<WireSession> {
    const { clock } = this.#options;
    if (clock.monotonic() - this.#failedAt < this.#pauseMs()) {
      throw new StorageError('unavailable', 'the database engine does not start; it is tried again shortly');
    }
    try {
      // It would only fail again, and burn the machine's time.
      if (this.#opens > 0) await this.#refuseWithoutRoom();
      const opened = await this.#openEngine((channel, payload) => this.#channels.notify(channel, payload));
      this.#begin(opened);
      await this.#listenAgain(opened.session);
      this.#failures = 0;
      return opened.session;
    } catch (error) {
      this.#failures++;
      this.#failedAt = clock.monotonic();
      this.#lastFailure = error;
      throw error;
    }
  }

  #pauseMs(): number {
    return reopenPauseMs[Math.min(this.#failures, reopenPauseMs.length - 1)] ?? 0;
  }

  async #refuseWithoutRoom(): Promise<void> {
    await this.#space.check();
    if (this.#space.freeBytes >= reopenFreeBytesMin) return;
    this.#failures = Math.min(this.#failures, 2);
    throw new StorageError(
      'unavailable',
      `no room on the file system of the data folder: ${this.#space.freeBytes} bytes`,
    );
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

  /** Opens the folder again without waiting for somebody to need it, until it is open, the database is closed, or there is no hope. */
  #reopen(): void {
    if (this.#closing) return;
    this.#pool.prepare().catch((error: unknown) => {
      if (this.#closing) return;
      this.#options.onLog(`opening the data folder again failed: ${String(error)}`);
      if (this.#failures >= reopenFailuresMax) void this.#giveUp();
      else this.#reopenAfterPause();
    });
  }

  #reopenAfterPause(): void {
    const { clock } = this.#options;
    // A timer may fire a little early by the monotonic time; a try within the pause would only begin another wait.
    const restMs = Math.ceil(this.#failedAt + this.#pauseMs() - clock.monotonic()) + 1;
    clock.after(Math.max(1, restMs), () => this.#reopen());
  }

  async #giveUp(): Promise<void> {
    const reason =
      `the database in ${this.#options.dataDir} could not be opened again, ${this.#failures} times: ${String(this.#lastFailure)}. ` +
      'Everything that was acknowledged is in that folder. Look at its disk and its permissions, then start again; if that fails, keep a copy of the folder';
    await this.abandon();
    this.#options.onLost?.(reason);
  }
}

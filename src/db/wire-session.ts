import { Client } from 'pg';
import type pg from 'pg';
import type { Clock } from '../clock.js';
import { StorageError } from './database.js';
import type { QueryResult, Role, Scope, Statement, Transaction } from './database.js';
import { CopyIn } from './wire-copy.js';
import { FirstStatement } from './wire-first-statement.js';
import { beginTexts } from './wire-scope.js';
import { TransactionStatements } from './wire-transaction.js';
import { WireStatement } from './wire-statement.js';
import { asError, breaksSession, forgetsStatements, reasonOf, SilentSession, toStorageError } from './wire-errors.js';

export interface WireSessionOptions {
  readonly clock: Clock;
  /** No progress for this long, in a statement or between two of one transaction: the session is destroyed. */
  readonly stallMsMax: number;
  /** The same for what the owner does: migrations, maintenance. Default: as for everybody. */
  readonly ownerStallMsMax?: number;
  /** Half of that time has gone by: what would be needed after the end of this session can be made ready. */
  readonly onHalfStalled?: () => void;
  /** A session that has made no progress because the disk makes none is given up only after `diskMsMax`. */
  readonly waitsForDisk?: () => boolean;
  readonly onNotification?: (channel: string, payload: string) => void;
  /** False: statements are prepared anew each time, without a name, for whatever session of the server a pooler has chosen. Default true. */
  readonly namesStatements?: () => boolean;
}

const diskMsMax = 30_000;
/** Longest wait for the other side when a session says goodbye. */
const endMsMax = 10_000;

/**
 * One session that speaks PostgreSQL's wire protocol, whatever is behind it: a server, or the embedded engine's worker. It runs one
 * transaction at a time; the caller sees to that. Once broken it stays broken.
 */
export class WireSession {
  /** Resolves when nothing of the session is left: the socket is closed, the worker has exited. Never rejects. */
  readonly ended: Promise<void>;
  readonly #client: pg.Client;
  readonly #options: WireSessionOptions;
  #failure: Error | undefined;
  #statementsForgotten = false;
  #onCommitWarning: Scope['onCommitWarning'];
  /** Statements that are sent, or wait to be, and have no answer. */
  #unanswered = 0;
  /** Those of them that came before COMMIT. */
  #aheadOfCommit = 0;
  #corked = false;
  #inEachTransaction: readonly string[] = [];
  /** Through a pooler: what comes next waits for this COPY, which itself waits for the server. */
  #copying: Promise<unknown> | null = null;
  #cancelStall: () => void = () => {};
  #stallMsMax = 0;

  /** Connects. Rejects with a `StorageError` of kind `unavailable`. */
  static async open(config: pg.ClientConfig, options: WireSessionOptions): Promise<WireSession> {
    // In pipeline mode `pg` sends a query without waiting for the answers to those before it.
    const session = new WireSession(new Client({ ...config, pipeline: true }), options);
    try {
      // The embedded engine's stream exists before its session does. On one that is closed already, pg would wait for ever.
      if (connectionOf(session.#client).stream.destroyed) throw new Error('the other side is gone');
      await session.#client.connect();
      return session;
    } catch (error) {
      session.destroy(asError(error));
      await session.ended;
      if (error instanceof StorageError && error.kind === 'unavailable') throw error;
      throw new StorageError('unavailable', `no database session: ${reasonOf(error)}`, { cause: error });
    }
  }

  private constructor(client: pg.Client, options: WireSessionOptions) {
    this.#client = client;
    this.#options = options;
    const { stream } = connectionOf(client);
    this.ended = new Promise((resolve) => (stream.closed ? resolve() : stream.once('close', resolve)));
    // Also what `pg` finds to be out of step. Without a listener an error on an idle session would end the process.
    client.on('error', (error) => this.destroy(error));
    stream.once('close', () => {
      this.#failure ??= new Error('the session has ended');
      this.#cancelStall();
    });
    client.on('notice', ({ code }) => {
      if (code?.startsWith('01') === true && this.#aheadOfCommit === 0) this.#onCommitWarning?.(code);
    });
    client.on('notification', ({ channel, payload }) => options.onNotification?.(channel, payload ?? ''));
  }

  /** Why it cannot be used any more. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** The server process that the other side named when it took the connection. A pooler names one that does not exist. */
  get serverProcess(): number | null {
    return (this.#client as unknown as { processID: number | null }).processID;
  }

  /** From now on every transaction begins with this statement, in the same write. */
  beginEachWith(statement: string): void {
    this.#inEachTransaction = [statement];
  }

  get usable(): boolean {
    return this.#failure === undefined;
  }

  /**
   * As `Database.transaction`, on this session. BEGIN leaves with the first statement, COMMIT with the statements that `work` did not wait
   * for, in one write.
   */
  async transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    const statements = new TransactionStatements(this, beginTexts(scope, this.#inEachTransaction));
    this.#useLimitOf(scope.role);
    this.#watchForStall();
    try {
      const value = await statements.run(work);
      await this.#commit(scope, statements);
      return value;
    } catch (error) {
      await statements.settled();
      // Also after a COMMIT that was answered with an error or with ROLLBACK; there it is harmless.
      if (this.usable) await this.#rollback();
      throw error;
    } finally {
      this.#onCommitWarning = undefined;
      await this.#endStatements();
    }
  }

  /** As `Database.query` of what only reads, on this session. */
  async read<Row>(scope: Scope, statement: Statement, values?: readonly unknown[]): Promise<QueryResult<Row>> {
    const { role, org } = scope;
    if (role !== 'owner' || org !== undefined || this.#inEachTransaction.length > 0) {
      // Without waiting, COMMIT leaves with it. For a write that would make an unknown outcome of every session that breaks.
      const sent = await this.transaction(scope, async (tx) => ({ answer: tx.query<Row>(statement, values) }));
      return sent.answer;
    }
    // There is nothing to set, so the statement alone is the transaction.
    this.#useLimitOf(role);
    try {
      const { rows, rowCount } = await this.query(statement, values);
      return { rows: rows as Row[], rowCount: rowCount ?? 0 };
    } finally {
      await this.#endStatements();
    }
  }

  async #commit(scope: Scope, statements: TransactionStatements): Promise<void> {
    // What only reads is lost with its session, and cannot be half done.
    const ifBroken = scope.priority === 'read' ? 'unavailable' : 'outcome_unknown';
    if (statements.isEmpty) return;
    const swallowed = statements.firstFailure;
    this.#onCommitWarning = scope.onCommitWarning;
    this.#aheadOfCommit = this.#unanswered;
    const committed = this.#step(ifBroken, 'COMMIT');
    const { afterCommit } = scope;
    // Its failure says nothing of the transaction.
    const asked = afterCommit && this.query(afterCommit.statement, undefined).catch(() => null);
    const { command } = await committed;
    const answer = await asked;
    const failure = statements.firstFailure;
    if (command !== 'COMMIT') throw swallowed === undefined && failure !== undefined ? failure : rolledBack(failure);
    // Where not even BEGIN succeeded, there was nothing that COMMIT could have committed.
    if (failure !== undefined && !statements.isBegun) throw failure;
    if (failure !== undefined) {
      const message = 'COMMIT was answered as if there had been no failure before it';
      throw new StorageError('outcome_unknown', message, { cause: failure });
    }
    if (answer) afterCommit?.onRows(answer.rows);
  }

  /** One simple-protocol message outside any transaction: settings, LISTEN. The rows are those of its last statement. */
  async run<Row = Record<string, unknown>>(text: string): Promise<Row[]> {
    this.#useLimitOf('owner');
    try {
      const results: pg.QueryResult | pg.QueryResult[] = await this.#step('unavailable', text);
      const last = (Array.isArray(results) ? results.at(-1) : results) as pg.QueryResult;
      return last.rows as Row[];
    } finally {
      this.#cancelStall();
    }
  }

  /** Breaks the session off, in the middle of whatever runs on it. */
  destroy(reason: Error): void {
    this.#failure ??= reason;
    connectionOf(this.#client).stream.destroy(reason);
  }

  /** Says goodbye and waits until the other side is gone; after 10 s breaks off. */
  async end(): Promise<void> {
    const cancel = this.#options.clock.after(endMsMax, () =>
      this.destroy(new Error('the session did not end in time')),
    );
    this.#client.end().catch(() => {});
    await this.ended;
    cancel();
  }

  /** For `TransactionStatements`: one statement of the transaction under way; the first one begins it with `begin`. */
  query(
    { name, text }: Statement,
    values: readonly unknown[] = [],
    begin: readonly string[] | null = null,
  ): Promise<pg.QueryResult> {
    const isNamed = this.#options.namesStatements?.() !== false;
    const statement = { name: isNamed ? name : '', text, values: [...values] };
    const query = begin === null ? new WireStatement(statement) : new FirstStatement(begin, statement);
    return this.#step('unavailable', query);
  }

  /** For `TransactionStatements`: one COPY of the transaction under way. */
  async copyIn(target: string, rows: Buffer): Promise<number> {
    const isPooled = this.#inEachTransaction.length > 0;
    const copied = this.#step('unavailable', new CopyIn(target, rows, isPooled));
    if (isPooled) this.#copying = copied.catch(() => {});
    const { command, rowCount } = await copied;
    if (command === 'COPY' && rowCount !== null) return rowCount;
    throw new StorageError('unavailable', 'the server ended COPY without a count');
  }

  /** For `TransactionStatements`: several statements in one message. */
  async script(text: string): Promise<void> {
    await this.#step('unavailable', text);
  }

  /** Sends something and waits for its answer, under the stall limit. `ifBroken` is the kind of error when the session breaks. */
  async #step(ifBroken: 'unavailable' | 'outcome_unknown', query: WireQuery): Promise<pg.QueryResult> {
    // Before it may have to wait for a COPY: a COMMIT behind it must know that this is ahead. If it is never sent, the session is broken.
    this.#unanswered++;
    if (this.#copying !== null) await this.#copying;
    // What was never sent has no unknown outcome.
    if (this.#failure !== undefined) throw toStorageError(this.#failure, 'unavailable');
    this.#watchForStall();
    this.#cork();
    try {
      return await this.#ask(query);
    } catch (error) {
      if (this.#failure !== undefined) throw toStorageError(this.#failure, ifBroken);
      if (breaksSession(error)) {
        this.destroy(error);
        throw toStorageError(error, ifBroken);
      }
      if (forgetsStatements(error)) this.#statementsForgotten = true;
      throw toStorageError(error, 'sql');
    } finally {
      this.#watchForStall();
    }
  }

  #ask(query: WireQuery): Promise<pg.QueryResult> {
    return new Promise((resolve, reject) => {
      let isAnswered = false;
      // With a callback, because that is called at once, before `pg` looks at the message after this answer.
      this.#client.query(query as unknown as pg.QueryConfig, (error: Error | null, result) => {
        if (isAnswered) return;
        isAnswered = true;
        this.#unanswered--;
        this.#aheadOfCommit--;
        if (error === null || error === undefined) resolve(result);
        else reject(error);
      });
    });
  }

  /** Holds back what is sent until this turn of the event loop has no more to add to it. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    const { stream } = connectionOf(this.#client);
    stream.cork();
    // In a microtask, because from there the next tick comes after all microtasks that are ready or become so.
    queueMicrotask(() =>
      process.nextTick(() => {
        this.#corked = false;
        stream.uncork();
      }),
    );
  }

  async #rollback(): Promise<void> {
    try {
      await this.#step('unavailable', 'ROLLBACK');
    } catch (error) {
      this.destroy(asError(error));
    }
  }

  async #endStatements(): Promise<void> {
    if (this.#statementsForgotten && this.usable) await this.#forgetStatements();
    this.#cancelStall();
  }

  /** Both sides forget every prepared statement, since they disagree about one; else each later use would fail the same way. */
  async #forgetStatements(): Promise<void> {
    try {
      await this.#step('unavailable', 'DEALLOCATE ALL');
      const connection = connectionOf(this.#client);
      connection.parsedStatements = {};
      connection.submittedNamedStatements = {};
      this.#statementsForgotten = false;
    } catch (error) {
      this.destroy(asError(error));
    }
  }

  #useLimitOf(role: Role): void {
    const { stallMsMax, ownerStallMsMax = stallMsMax } = this.#options;
    this.#stallMsMax = role === 'owner' ? ownerStallMsMax : stallMsMax;
  }

  /** Called at every sign of progress. */
  #watchForStall(): void {
    this.#cancelStall();
    if (this.#failure !== undefined) return;
    const { clock, waitsForDisk, onHalfStalled } = this.#options;
    const limitMs = this.#stallMsMax;
    const half = (): void => {
      this.#cancelStall = clock.after(limitMs / 2, () => expire(limitMs));
      onHalfStalled?.();
    };
    const expire = (silentMs: number): void => {
      if (waitsForDisk?.() === true && silentMs < diskMsMax) {
        this.#cancelStall = clock.after(limitMs, () => expire(silentMs + limitMs));
      } else {
        this.destroy(new SilentSession(silentMs));
      }
    };
    this.#cancelStall = clock.after(limitMs / 2, half);
  }
}

type WireQuery = string | CopyIn | WireStatement;

function rolledBack(cause: unknown): StorageError {
  const { sqlstate, where } = cause instanceof StorageError ? cause : {};
  const message = 'the server answered COMMIT with ROLLBACK, because a statement of the transaction had failed';
  return new StorageError('sql', message, { sqlstate, where, cause });
}

interface ClientConnection extends pg.Connection {
  parsedStatements: Record<string, string>;
  submittedNamedStatements: Record<string, string>;
}

/** The connection of a client: not in pg's types, but the only way to its stream and to what it thinks is prepared. */
function connectionOf(client: pg.Client): ClientConnection {
  return (client as unknown as { connection: ClientConnection }).connection;
}

/**
 * The whole of what the program asks of its database. Two engines implement it (`postgres.ts`, `embedded.ts`), one suite
 * (`test/db/conformance.test.ts`) holds for both, and every SQL text (`db/sql/`) runs on both.
 */

/** A named SQL text. The name is the prepared statement's, so it is unique in the program. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** `owner` migrates and makes partitions; the others hold only the grants that migrations 0001 and 0004 give them. */
export type Role = 'owner' | 'ingest' | 'app' | 'system' | 'erasure';

export interface Scope {
  readonly role: Role;
  /** The org whose rows `app` may see and change (row-level security). Decimal digits. */
  readonly org?: string;
  /** `read` is for work that changes nothing: on an engine with a single session it goes before writes. Default `write`. */
  readonly priority?: 'read' | 'write';
  /**
   * With `query` only: the statement runs in no transaction at all, as the owner, on a session that nobody else uses, and may take hours (CREATE INDEX
   * CONCURRENTLY). It takes no values and returns no rows. Where the session breaks (`unavailable`), it may have been done, in part or as a whole.
   */
  readonly outsideTransaction?: true;
  /** Of `ingest`: what has the same lane shares a connection, and what has another, modulo their number, need not wait for it. Default 0. */
  readonly lane?: number;
  /** Called with the SQLSTATE of every warning that came with COMMIT (01000: the wait for the standby was cancelled). */
  readonly onCommitWarning?: (sqlstate: string) => void;
  /**
   * A statement without parameters, asked right behind COMMIT in the same write, by the owner. `onRows` gets its answer before the
   * transaction resolves, or is not called if there is none.
   */
  readonly afterCommit?: { readonly statement: Statement; readonly onRows: (rows: readonly unknown[]) => void };
}

export interface QueryResult<Row> {
  readonly rows: Row[];
  /** Rows returned or changed, as the command tag counts them. */
  readonly rowCount: number;
}

/**
 * The statements of one transaction. They are answered in the order in which they are sent; one that fails makes all later ones, and the
 * transaction, fail. What is sent before an answer is awaited leaves in one write, and COMMIT leaves with what `work` did not wait for: a promise
 * of a statement may be kept, and awaited after the transaction.
 */
export interface Transaction {
  query<Row = Record<string, unknown>>(statement: Statement, values?: readonly unknown[]): Promise<QueryResult<Row>>;
  /**
   * `COPY target FROM STDIN (FORMAT binary)`. The statement, all of `rows` and the end of data leave in one write, so that the server never
   * waits for a client in the middle. Returns the number of rows that the server's tag counts.
   */
  copyIn(target: string, rows: Buffer): Promise<number>;
  /** Several statements without parameters in one message (the simple protocol): migrations and partitions. */
  script(text: string): Promise<void>;
}

export interface Database {
  readonly engine: 'embedded' | 'postgres';
  /**
   * Runs `work` in one explicit READ COMMITTED transaction under `scope.role`. Resolves only after the server's tag said
   * `COMMIT`; a `ROLLBACK` tag rejects. If `work` throws, rolls back and rethrows. Rejects with a `StorageError`.
   */
  transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T>;
  /** One statement in a transaction of its own. */
  query<Row = Record<string, unknown>>(
    scope: Scope,
    statement: Statement,
    values?: readonly unknown[],
  ): Promise<QueryResult<Row>>;
  /**
   * Hears notifications on `channel` until the returned function is called. After a lost connection it listens again and calls
   * `onGap`, since notifications may have been missed. Rejects with `unavailable`, or with an SQLSTATE, where that may pass.
   */
  listen(channel: string, onNotify: (payload: string) => void, onGap?: () => void): Promise<() => Promise<void>>;
  /** Ends every session after the work under way. Idempotent. */
  close(): Promise<void>;
}

/**
 * Why a call on the database failed:
 * - `sql`: the server refused a statement (`sqlstate` says why); nothing of the transaction is stored.
 * - `unavailable`: no session could be had, or it broke before COMMIT was sent; nothing of the transaction is stored.
 * - `overloaded`: an org's work that would have waited too long for a session; nothing of it was begun.
 * - `outcome_unknown`: the session broke after COMMIT was sent; the transaction may be stored or not.
 */
export type StorageErrorKind = 'sql' | 'unavailable' | 'overloaded' | 'outcome_unknown';

export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly kind: StorageErrorKind;
  readonly sqlstate: string | undefined;
  /** Where a COPY failed, as the server says it (`COPY events, line 3, column payload`). For the log and for splitting a batch. */
  readonly where: string | undefined;
  /** Of `overloaded`: when what waits now will be done. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    kind: StorageErrorKind,
    message: string,
    options: {
      sqlstate?: string | undefined;
      where?: string | undefined;
      retryAfterSeconds?: number;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: options.cause });
    this.kind = kind;
    this.sqlstate = options.sqlstate;
    this.where = options.where;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

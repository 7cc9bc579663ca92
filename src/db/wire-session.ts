import { Client } from 'pg';
import type pg from 'pg';
import type { Clock } from '../clock.js';
import { StorageError } from './database.js';
import type { QueryResult, Role, Scope, Statement, Transaction } from './database.js';
import { CopyIn } from './wire-copy.js';
import { asError, breaksSession, forgetsStatements, reasonOf, toStorageError } from './wire-errors.js';

export interface WireSessionOptions {
  readonly clock: Clock;
  /** Session settings, run once after connecting, as one simple query. */
  readonly setup?: string;
  /** No progress for this long, in a statement or between two of one transaction: the session is destroyed. */
  readonly stallMsMax: number;
  readonly onNotification?: (channel: string, payload: string) => void;
}

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
  #committing: Scope | undefined;
  #cancelStall: () => void = () => {};

  /** Connects and sets the session up. Rejects with a `StorageError` of kind `unavailable`. */
  static async open(config: pg.ClientConfig, options: WireSessionOptions): Promise<WireSession> {
    const session = new WireSession(new Client(config), options);
    try {
      // The embedded engine's stream exists before its session does. On one that is closed already, pg would wait for ever.
      if (connectionOf(session.#client).stream.destroyed) throw new Error('the other side is gone');
      await session.#client.connect();
      if (options.setup !== undefined) await session.run(options.setup);
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
    // Without this listener an error on an idle session would end the process.
    client.on('error', (error) => {
      this.#failure ??= error;
    });
    stream.once('close', () => {
      this.#failure ??= new Error('the session has ended');
      this.#cancelStall();
    });
    client.on('notice', ({ code }) => {
      if (code?.startsWith('01') === true) this.#committing?.onCommitWarning?.(code);
    });
    client.on('notification', ({ channel, payload }) => options.onNotification?.(channel, payload ?? ''));
  }

  get usable(): boolean {
    return this.#failure === undefined;
  }

  /** As `Database.transaction`, on this session. */
  async transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    const begin = beginText(scope);
    const statements = new TransactionStatements(this);
    try {
      await this.#step('unavailable', () => this.#client.query(begin));
      const value = await statements.run(work);
      this.#committing = scope;
      const { command } = await this.#step('outcome_unknown', () => this.#client.query('COMMIT'));
      if (command !== 'COMMIT') throw rolledBack(statements.firstFailure);
      return value;
    } catch (error) {
      this.#committing = undefined;
      // Also after a COMMIT that was answered with an error or with ROLLBACK; there it is harmless.
      if (this.usable) await this.#rollback();
      throw error;
    } finally {
      this.#committing = undefined;
      if (this.#statementsForgotten && this.usable) await this.#forgetStatements();
      this.#cancelStall();
    }
  }

  /** One simple-protocol message outside any transaction: settings, LISTEN. The rows are those of its last statement. */
  async run<Row = Record<string, unknown>>(text: string): Promise<Row[]> {
    try {
      const results: unknown = await this.#step('unavailable', () => this.#client.query(text));
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

  /** For `TransactionStatements`: one statement of the transaction under way. */
  async query(statement: Statement, values: readonly unknown[] | undefined): Promise<pg.QueryResult> {
    return this.#step('unavailable', () =>
      this.#client.query({
        name: statement.name,
        text: statement.text,
        values: values === undefined ? [] : [...values],
      }),
    );
  }

  /** For `TransactionStatements`: one COPY of the transaction under way. */
  async copyIn(target: string, rows: Buffer): Promise<number> {
    return this.#step(
      'unavailable',
      () =>
        new Promise((resolve, reject) => {
          const text = `COPY ${target} FROM STDIN (FORMAT binary)`;
          const settle = (error: unknown, count: number): void =>
            error === undefined ? resolve(count) : reject(asError(error));
          this.#client.query(new CopyIn(text, rows, settle));
        }),
    );
  }

  /** For `TransactionStatements`: several statements in one message. */
  async script(text: string): Promise<void> {
    await this.#step('unavailable', () => this.#client.query(text));
  }

  /** Sends something and waits for its answer, under the stall limit. `ifBroken` is the kind of error when the session breaks. */
  async #step<T>(ifBroken: 'unavailable' | 'outcome_unknown', send: () => Promise<T>): Promise<T> {
    // What was never sent has no unknown outcome.
    if (this.#failure !== undefined) throw toStorageError(this.#failure, 'unavailable');
    this.#watchForStall();
    try {
      return await send();
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

  async #rollback(): Promise<void> {
    try {
      await this.#step('unavailable', () => this.#client.query('ROLLBACK'));
    } catch (error) {
      this.destroy(asError(error));
    }
  }

  /** Both sides forget every prepared statement, since they disagree about one; else each later use would fail the same way. */
  async #forgetStatements(): Promise<void> {
    try {
      await this.#step('unavailable', () => this.#client.query('DEALLOCATE ALL'));
      const connection = connectionOf(this.#client);
      connection.parsedStatements = {};
      connection.submittedNamedStatements = {};
      this.#statementsForgotten = false;
    } catch (error) {
      this.destroy(asError(error));
    }
  }

  #watchForStall(): void {
    this.#cancelStall();
    if (this.#failure !== undefined) return;
    const { clock, stallMsMax } = this.#options;
    this.#cancelStall = clock.after(stallMsMax, () =>
      this.destroy(new Error(`no progress in the session for ${stallMsMax} ms`)),
    );
  }
}

/** The statements of one transaction, one after the other, until it is closed. */
class TransactionStatements implements Transaction {
  readonly #session: WireSession;
  #last: Promise<unknown> = Promise.resolve();
  #open = true;
  firstFailure: unknown;

  constructor(session: WireSession) {
    this.#session = session;
  }

  /** Runs `work` and waits for every statement it sent, also those whose promise it dropped. */
  async run<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    try {
      return await work(this);
    } finally {
      this.#open = false;
      await this.#last;
    }
  }

  async query<Row>(statement: Statement, values?: readonly unknown[]): Promise<QueryResult<Row>> {
    const { rows, rowCount } = await this.#inTurn(() => this.#session.query(statement, values));
    return { rows: rows as Row[], rowCount: rowCount ?? 0 };
  }

  copyIn(target: string, rows: Buffer): Promise<number> {
    return this.#inTurn(() => this.#session.copyIn(target, rows));
  }

  async script(text: string): Promise<void> {
    await this.#inTurn(() => this.#session.script(text));
  }

  #inTurn<T>(send: () => Promise<T>): Promise<T> {
    if (!this.#open) return Promise.reject(new StorageError('sql', 'the transaction is over'));
    const answer = this.#last.then(send);
    this.#last = answer.catch((error: unknown) => {
      this.firstFailure ??= error;
    });
    return answer;
  }
}

const setRole: Record<Role, string> = {
  owner: '',
  // The reserve statement keeps its locking order only if the planner joins by index; ALTER ROLE settings do not follow SET ROLE.
  ingest:
    '; SET LOCAL ROLE sluice_ingest; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off',
  app: '; SET LOCAL ROLE sluice_app',
  system: '; SET LOCAL ROLE sluice_system',
};

/** The org is set by a statement, not by a parameter (SET takes none), so only digits get through. */
function beginText({ role, org }: Scope): string {
  if (org !== undefined && !/^[0-9]{1,19}$/.test(org)) throw new StorageError('sql', 'an org is a decimal number');
  const setOrg = org === undefined ? '' : `; SET LOCAL sluice.org = '${org}'`;
  return `BEGIN ISOLATION LEVEL READ COMMITTED${setRole[role]}${setOrg}`;
}

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

import { StorageError } from './database.js';
import type { QueryResult, Statement, Transaction } from './database.js';
import type { WireSession } from './wire-session.js';

/** The statements of one transaction, answered in the order in which they are sent, until it is closed. */
export class TransactionStatements implements Transaction {
  readonly #session: WireSession;
  readonly #begin: readonly string[];
  /** The first statement, which begins the transaction; null if there was none yet. */
  #first: Promise<unknown> | null = null;
  isBegun = false;
  #last: Promise<unknown> = Promise.resolve();
  #open = true;
  firstFailure: unknown;

  constructor(session: WireSession, begin: readonly string[]) {
    this.#session = session;
    this.#begin = begin;
  }

  get isEmpty(): boolean {
    return this.#first === null;
  }

  /** Runs `work`. Statements whose promise it dropped may still be under way then. */
  async run<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    try {
      return await work(this);
    } finally {
      this.#open = false;
    }
  }

  /** Resolves when every statement is answered. */
  async settled(): Promise<void> {
    await this.#last;
  }

  query<Row>(statement: Statement, values?: readonly unknown[]): Promise<QueryResult<Row>> {
    const send = async (begin: readonly string[] | null): Promise<QueryResult<Row>> => {
      const { rows, rowCount } = await this.#session.query(statement, values, begin);
      return { rows: rows as Row[], rowCount: rowCount ?? 0 };
    };
    return this.#first === null && this.#open ? this.#sendFirst(() => send(this.#begin)) : this.#send(() => send(null));
  }

  copyIn(target: string, rows: Buffer): Promise<number> {
    return this.#send(() => this.#session.copyIn(target, rows));
  }

  script(text: string): Promise<void> {
    return this.#send(() => this.#session.script(text));
  }

  #sendFirst<T>(send: () => Promise<T>): Promise<T> {
    const first = this.#watch(send());
    this.#first = first.then((value) => {
      this.isBegun = true;
      return value;
    });
    this.#first.catch(() => {});
    return first;
  }

  /** Nothing is sent before it is known that the transaction has begun: outside of one it would be committed at once, by the owner. */
  #send<T>(send: () => Promise<T>): Promise<T> {
    if (!this.#open) return Promise.reject(new StorageError('sql', 'the transaction is over'));
    if (this.isBegun) return this.#watch(send());
    if (this.#first === null) void this.#sendFirst(() => this.#session.script(this.#begin.join('; '))).catch(() => {});
    return this.#watch((this.#first as unknown as Promise<unknown>).then(send));
  }

  /** Remembers a failure. The promise may then be dropped without harm. */
  #watch<T>(answer: Promise<T>): Promise<T> {
    const seen = answer.catch((error: unknown) => {
      this.firstFailure ??= error;
    });
    this.#last = Promise.all([this.#last, seen]);
    return answer;
  }
}

import { Query } from 'pg';
import type pg from 'pg';
import { serialize } from 'pg-protocol';
import { WireStatement } from './wire-statement.js';

/** What `pg` notes about named statements, by name. */
interface Prepared extends pg.Connection {
  submittedNamedStatements: Record<string, string>;
}

/**
 * A transaction's BEGIN, what is set in it, and its first statement, in one write and before one Sync: when any of it fails, the server skips the
 * rest up to that Sync. As a query of its own, a BEGIN that fails (a cancel at the wrong moment is enough) would leave the statement behind it
 * to run outside of any transaction, as the owner. `pg` sees one query, the first statement.
 */
export class FirstStatement extends WireStatement {
  readonly #begin: readonly string[];
  readonly #name: string;
  #connection: Prepared | undefined;
  /** Answers to come before those to the statement. */
  #ahead: number;

  constructor(begin: readonly string[], statement: { name: string; text: string; values: unknown[] }) {
    super(statement);
    this.#begin = begin;
    this.#name = statement.name;
    this.#ahead = begin.length;
    const submitStatement = this.submit.bind(this);
    this.submit = (connection) => {
      const { stream } = connection;
      this.#connection = connection as Prepared;
      stream.cork();
      for (const text of this.#begin) stream.write(unnamed(text));
      submitStatement(connection);
      stream.uncork();
      // Until then `pg` would take what is parsed for the statement.
      this.#setName(undefined);
    };
  }

  handleDataRow(message: unknown): void {
    if (this.#ahead === 0) base.handleDataRow.call(this, message);
  }

  handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#ahead === 0) {
      base.handleCommandComplete.call(this, message, connection);
      return;
    }
    this.#ahead--;
    if (this.#ahead === 0) this.#setName(this.#name);
  }

  handleError(error: unknown, connection: pg.Connection): void {
    // Whether the statement was parsed is not known: the next one sends it again.
    if (this.#ahead > 0) delete this.#connection?.submittedNamedStatements[this.#name];
    base.handleError.call(this, error, connection);
  }

  #setName(name: string | undefined): void {
    (this as { name?: string | undefined }).name = name;
  }
}

/** What transactions begin with is always the same, but for the org. */
const messages = new Map<string, Buffer>();
const messagesMax = 1_000;

/** The messages that run a statement without a name or parameters. */
function unnamed(text: string): Buffer {
  let bytes = messages.get(text);
  if (bytes === undefined) {
    bytes = Buffer.concat([serialize.parse({ text }), serialize.bind({}), serialize.execute({})]);
    if (messages.size >= messagesMax) messages.clear();
    messages.set(text, bytes);
  }
  return bytes;
}

/** The methods that `pg` calls, and its types leave out. */
const base = Query.prototype as unknown as Record<
  'handleDataRow' | 'handleCommandComplete' | 'handleError',
  (this: Query, ...args: unknown[]) => void
>;

import type { Database, QueryResult, Scope, Statement, Transaction } from '../../src/db/database.js';
import { signal } from './conformance.js';

type Result = QueryResult<Record<string, unknown>>;

/** What goes wrong inside the transactions of ingest; all other work runs as it is. */
export interface Faults {
  /** In place of a statement: `run` sends it, with its own values or others. */
  readonly query?: (
    statement: Statement,
    values: readonly unknown[],
    run: (values: readonly unknown[]) => Promise<Result>,
    tx: Transaction,
  ) => Promise<Result>;
  /** In place of a COPY. */
  readonly copyIn?: (tx: Transaction, target: string, rows: Buffer) => Promise<number>;
  /** After the work and before COMMIT. */
  readonly beforeCommit?: (tx: Transaction) => Promise<void>;
  /** In place of a whole transaction. `value` is what its work came to, known before COMMIT. */
  readonly transaction?: <T>(run: () => Promise<T>, value: Promise<T>) => Promise<T>;
}

/** A real database of which one part is broken. */
export function withFaults(database: Database, faults: Faults): Database {
  const transaction = <T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> => {
    if (scope.role !== 'ingest') return database.transaction(scope, work);
    const worked = signal<T>();
    const run = (): Promise<T> =>
      database.transaction(scope, async (tx) => {
        const value = await work(faultyTransaction(tx, faults));
        worked.fire(value);
        await faults.beforeCommit?.(tx);
        return value;
      });
    return faults.transaction === undefined ? run() : faults.transaction(run, worked.promise);
  };
  return {
    engine: database.engine,
    transaction,
    query: (scope, statement, values) => database.query(scope, statement, values),
    listen: (channel, onNotify, onGap) => database.listen(channel, onNotify, onGap),
    close: () => database.close(),
  };
}

function faultyTransaction(tx: Transaction, { query, copyIn }: Faults): Transaction {
  return {
    async query<Row>(statement: Statement, values: readonly unknown[] = []) {
      if (query === undefined) return tx.query<Row>(statement, values);
      const { rows, rowCount } = await query(statement, values, (given) => tx.query(statement, given), tx);
      return { rows: rows as Row[], rowCount };
    },
    copyIn: (target, rows) => (copyIn === undefined ? tx.copyIn(target, rows) : copyIn(tx, target, rows)),
    script: (text) => tx.script(text),
  };
}

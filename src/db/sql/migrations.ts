/** What the migrator keeps and asks: versions, how far a backfill has come, whether an index is whole. As the owner. */
import type { Database, Scope, Transaction } from '../database.js';

const reading: Scope = { role: 'owner', priority: 'read' };

/** The version that a database is at (0: no schema), and the names of all migrations that it has, by version. */
export interface StoredSchema {
  readonly version: number;
  readonly names: ReadonlyMap<number, string>;
}

export function storedSchema(database: Database): Promise<StoredSchema> {
  return database.transaction(reading, storedSchemaIn);
}

const existsStatement = {
  name: 'migrate_exists',
  // Not by to_regclass, which answers from what the session remembers: after the wait for another migrator that is out of date.
  text: `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migrations') AS exists`,
};
const versionsStatement = {
  name: 'migrate_versions',
  text: 'SELECT version, name FROM schema_migrations ORDER BY version',
};

export async function storedSchemaIn(tx: Transaction): Promise<StoredSchema> {
  const { rows } = await tx.query<{ exists: boolean }>(existsStatement);
  if (rows[0]?.exists !== true) return { version: 0, names: new Map() };
  const stored = await tx.query<{ version: number; name: string }>(versionsStatement);
  return {
    version: stored.rows.at(-1)?.version ?? 0,
    names: new Map(stored.rows.map(({ version, name }) => [version, name])),
  };
}

const recordStatement = { name: 'migrate_record', text: 'INSERT INTO schema_migrations VALUES ($1, $2, now())' };

export async function recordMigration(tx: Transaction, version: number, name: string): Promise<void> {
  await tx.query(recordStatement, [version, name]);
}

/** One advisory lock of the database, held by whoever migrates: an arbitrary number, the same in every version. */
const migrationLock = 7_305_810_211;
const lockStatement = { name: 'migrate_lock', text: 'SELECT pg_try_advisory_xact_lock($1) AS locked' };

/**
 * Whether this transaction is now the only one that migrates, until it ends. Never waits: a session that waits has a snapshot, and the building of an
 * index waits for those.
 */
export async function tryMigrationLock(tx: Transaction): Promise<boolean> {
  return (await tx.query<{ locked: boolean }>(lockStatement, [migrationLock])).rows[0]?.locked === true;
}

export async function limitStep(tx: Transaction, lockMsMax: number, statementMsMax: number): Promise<void> {
  await tx.script(`SET LOCAL lock_timeout = ${lockMsMax}; SET LOCAL statement_timeout = ${statementMsMax}`);
}

/** Where a backfill has come to. */
export interface BackfillState {
  /** Where the last chunk ended; null before the first, and after the last. */
  readonly after: string | null;
  /** Changed so far. */
  readonly rows: number;
}

const makeBackfills = `
  CREATE TABLE IF NOT EXISTS schema_backfills (version integer PRIMARY KEY, after text NOT NULL, rows bigint NOT NULL)`;
const backfillStatement = {
  name: 'migrate_backfill_read',
  text: 'SELECT after, rows FROM schema_backfills WHERE version = $1',
};
const saveStatement = {
  name: 'migrate_backfill_save',
  text: `INSERT INTO schema_backfills VALUES ($1, $2, $3)
    ON CONFLICT (version) DO UPDATE SET after = excluded.after, rows = excluded.rows`,
};
const forgetStatement = {
  name: 'migrate_backfill_forget',
  text: 'DELETE FROM schema_backfills WHERE version = $1',
};

/** Under `tryMigrationLock` only: two that make the table at once would get in each other's way. */
export async function backfillState(tx: Transaction, version: number): Promise<BackfillState> {
  await tx.script(makeBackfills);
  const { rows } = await tx.query<{ after: string; rows: string }>(backfillStatement, [version]);
  return rows[0] === undefined ? { after: null, rows: 0 } : { after: rows[0].after, rows: Number(rows[0].rows) };
}

/** An end is not kept: the version itself is recorded in the same transaction. */
export async function saveBackfill(tx: Transaction, version: number, { after, rows }: BackfillState): Promise<void> {
  if (after === null) await tx.query(forgetStatement, [version]);
  else await tx.query(saveStatement, [version, after, rows]);
}

/** Runs one chunk of a backfill, as `role` if it names one, and returns what the statement says of it. */
export async function runChunk(
  tx: Transaction,
  { name, text, role }: { readonly name: string; readonly text: string; readonly role: string | null },
  after: string | null,
  chunkRows: number,
): Promise<BackfillState> {
  if (role !== null) await tx.script(`SET LOCAL ROLE ${role}`);
  const { rows } = await tx.query<{ after: string | null; rows: string }>({ name, text }, [after, chunkRows]);
  if (role !== null) await tx.script('RESET ROLE');
  const [row] = rows;
  if (row === undefined || row.after === undefined || row.rows === undefined) {
    throw new Error(`${name} returned no row with after and rows, so nobody knows where it is`);
  }
  return { after: row.after, rows: Number(row.rows) };
}

export type IndexState = 'absent' | 'valid' | 'invalid';

const indexStatement = {
  name: 'migrate_index',
  text: `SELECT i.indisvalid AND i.indisready AS valid FROM pg_class AS c JOIN pg_index AS i ON i.indexrelid = c.oid
    WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace`,
};

export function indexState(database: Database, index: string): Promise<IndexState> {
  return database.transaction(reading, (tx) => indexStateIn(tx, index));
}

async function indexStateIn(tx: Transaction, index: string): Promise<IndexState> {
  const [row] = (await tx.query<{ valid: boolean }>(indexStatement, [index])).rows;
  if (row === undefined) return 'absent';
  return row.valid ? 'valid' : 'invalid';
}

/**
 * Drops an index that a build left incomplete; returns whether it was one. While another session builds it, it is invalid as well; but that session
 * holds the lock that is taken here first, so under it there is no such session.
 */
export function dropInvalidIndex(
  database: Database,
  { index, table }: { readonly index: string; readonly table: string },
  lockMsMax: number,
): Promise<boolean> {
  return database.transaction({ role: 'owner' }, async (tx) => {
    await tx.script(`SET LOCAL lock_timeout = ${lockMsMax}; LOCK TABLE ${table} IN SHARE UPDATE EXCLUSIVE MODE`);
    if ((await indexStateIn(tx, index)) !== 'invalid') return false;
    await tx.script(`DROP INDEX ${index}`);
    return true;
  });
}

const holdersStatement = {
  name: 'migrate_holders',
  text: `
    SELECT l.relation::regclass::text AS table, l.mode, a.pid, a.usename AS login, a.application_name AS program, a.state,
      extract(epoch FROM clock_timestamp() - a.xact_start)::integer AS seconds
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.granted AND l.pid <> pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
    ORDER BY a.xact_start LIMIT 1`,
};

interface Holder {
  table: string;
  mode: string;
  pid: number;
  /** These are null where our login may not see them. */
  login: string | null;
  program: string | null;
  state: string | null;
  seconds: number | null;
}

/** Says who has held a lock on one of these tables for the longest, now; null if nobody does any more. */
export async function oldestHolder(database: Database, tables: readonly string[]): Promise<string | null> {
  const [holder] = (await database.query<Holder>(reading, holdersStatement, [tables])).rows;
  if (holder === undefined) return null;
  const { table, mode, pid, login, program, state, seconds } = holder;
  const known = [login, program, state, seconds === null ? null : `for ${seconds} s`].filter(
    (each) => each !== null && each !== '',
  );
  return `${table} is locked (${mode}) by the session ${pid}${known.length === 0 ? '' : `: ${known.join(', ')}`}`;
}

/** A statement that no transaction takes. May take hours. */
export async function outsideTransaction(database: Database, name: string, text: string): Promise<void> {
  await database.query({ role: 'owner', outsideTransaction: true }, { name, text });
}

/** What an import writes: its own progress, and the rows of a chunk, each table by the role that has the grant for it. */
import type { Database, Transaction } from '../database.js';
import { StorageError } from '../database.js';
import { encodeCopyRows } from '../copy-binary.js';
import type { CopyValue } from '../copy-binary.js';
import { eventCopyColumns, eventCopyTarget } from './events.js';
import { dedupKey, insertDedup } from './ingest.js';
import type { DedupEntry } from './ingest.js';

export interface ImportRow {
  chunks: string;
  checksum: Buffer;
  complete: boolean;
}

const findStatement = {
  name: 'import_find',
  text: 'SELECT chunks, checksum, complete FROM imports WHERE first_checksum = $1',
};

/** How far the import of the file is whose first chunk has this checksum. */
export async function findImport(database: Database, firstChecksum: Buffer): Promise<ImportRow | null> {
  const { rows } = await database.query<ImportRow>({ role: 'owner', priority: 'read' }, findStatement, [firstChecksum]);
  return rows[0] ?? null;
}

const unfinishedStatement = {
  name: 'import_unfinished',
  text: 'SELECT EXISTS (SELECT FROM imports WHERE NOT complete) AS unfinished',
};

export async function hasUnfinishedImport(database: Database): Promise<boolean> {
  const { rows } = await database.query<{ unfinished: boolean }>(
    { role: 'owner', priority: 'read' },
    unfinishedStatement,
  );
  return rows[0]?.unfinished === true;
}

/** One chunk as progress: the file's first checksum, the chunk's number from 1 on, and the checksums before and after it. */
export interface ChunkMark {
  readonly firstChecksum: Buffer;
  readonly number: number;
  readonly before: Buffer;
  readonly after: Buffer;
}

const beginStatement = {
  name: 'import_begin',
  text: 'INSERT INTO imports (first_checksum, chunks, checksum) VALUES ($1, 1, $1) ON CONFLICT DO NOTHING',
};
const advanceStatement = {
  name: 'import_advance',
  text: 'UPDATE imports SET chunks = $2, checksum = $4 WHERE first_checksum = $1 AND chunks = $2 - 1 AND checksum = $3',
};

/** To be the first of a chunk's transaction: from then on nobody else stores that chunk. False if somebody has. */
export async function markChunk(tx: Transaction, mark: ChunkMark): Promise<boolean> {
  const { rowCount } =
    mark.number === 1
      ? await tx.query(beginStatement, [mark.firstChecksum])
      : await tx.query(advanceStatement, [mark.firstChecksum, mark.number, mark.before, mark.after]);
  return rowCount === 1;
}

const completeStatement = {
  name: 'import_complete',
  text: 'UPDATE imports SET complete = true WHERE first_checksum = $1',
};

export async function completeImport(database: Database, firstChecksum: Buffer): Promise<void> {
  await database.query({ role: 'owner' }, completeStatement, [firstChecksum]);
}

const existingOrgsStatement = {
  name: 'import_existing_orgs',
  text: 'SELECT org FROM orgs WHERE org = ANY ($1::bigint[]) ORDER BY org LIMIT 1',
};

/** One of these orgs that exists, or null. */
export async function anyExistingOrg(database: Database, orgs: readonly string[]): Promise<string | null> {
  const { rows } = await database.query<{ org: string }>({ role: 'system', priority: 'read' }, existingOrgsStatement, [
    orgs,
  ]);
  return rows[0]?.org ?? null;
}

/** The roles that hold the grants, changed within one transaction. SET ROLE is decided by who is connected, so each may follow each. */
export async function actAs(tx: Transaction, role: 'app' | 'ingest' | 'system', org?: string): Promise<void> {
  if (org !== undefined && !/^[0-9]{1,19}$/.test(org)) throw new StorageError('sql', 'an org is a decimal number');
  await tx.script(`SET LOCAL ROLE sluice_${role}${org === undefined ? '' : `; SET LOCAL sluice.org = '${org}'`}`);
}

/** A row as JSON, by the names of its columns. */
export type JsonRow = Readonly<Record<string, unknown>>;

/** Rows come as one JSON text, which takes every type through its own input function: sets of positions, arrays, bytes. */
const inserts = {
  orgs:
    'org bigint, name text, tier text, rate_per_minute bigint, burst bigint, limit_mode text, retention_days integer, suspended boolean, ' +
    'created_at timestamptz',
  api_keys:
    'org bigint, key_id text, hash bytea, name text, prefix text, scopes text[], created_at timestamptz, expires_at timestamptz, ' +
    'retires_at timestamptz, last_used_at timestamptz',
  heads:
    'org bigint, epoch integer, position bigint, day integer, received_at timestamptz, first_position bigint, first_day integer, ' +
    // Null in every row: it is not the run of this server.
    'server_run bigint',
  subscriptions:
    'org bigint, subscription integer, kind text, name text, max_attempts integer, cursor bigint, cursor_day integer, ahead int8multirange, ' +
    'held bigint, dead bigint, expired bigint, erased bigint, skipped int8multirange, filters jsonb, created_at timestamptz',
  leases:
    'org bigint, subscription integer, lease text, attempt integer, available_at timestamptz, positions int8multirange, first_day integer, ' +
    'last_day integer, waiting boolean',
  dead_letters: 'org bigint, subscription integer, position bigint, day integer, attempts integer, died_at timestamptz',
} as const;

export type ImportedTable = keyof typeof inserts;

/** Inserts rows, all or none. The columns of `rows` are those of the table. */
export async function insertRows(tx: Transaction, table: ImportedTable, rows: readonly JsonRow[]): Promise<void> {
  if (rows.length === 0) return;
  const columns = inserts[table].replaceAll(/ [a-z0-9[\]]+(?=,|$)/g, '');
  const text = `INSERT INTO ${table} (${columns}) SELECT ${columns} FROM json_to_recordset($1::json) AS r (${inserts[table]})`;
  await tx.query({ name: `import_${table}`, text }, [JSON.stringify(rows)]);
}

/** Rows of `events` in the order of the COPY's columns; the partitions of their days exist. */
export async function copyEvents(
  tx: Transaction,
  byDay: ReadonlyMap<number, readonly (readonly CopyValue[])[]>,
): Promise<void> {
  for (const [day, rows] of byDay) {
    const stored = await tx.copyIn(eventCopyTarget(day), encodeCopyRows(eventCopyColumns, rows));
    if (stored !== rows.length) throw new StorageError('sql', `COPY stored ${stored} of ${rows.length} events`);
  }
}

export async function insertAllDedup(tx: Transaction, entries: readonly DedupEntry[]): Promise<void> {
  if (entries.length === 0) return;
  const stored = await insertDedup(tx, entries);
  const lost = entries.find((entry) => !stored.has(dedupKey(entry.org, entry.dedupId)));
  if (lost !== undefined) throw new StorageError('sql', `org ${lost.org} has one of its dedup ids twice`);
}

const releaseStatement = {
  name: 'import_release_orgs',
  text: 'UPDATE orgs SET suspended = false WHERE org = ANY ($1::bigint[])',
};

/** Lets complete orgs be used. */
export async function releaseOrgs(tx: Transaction, orgs: readonly string[]): Promise<void> {
  if (orgs.length > 0) await tx.query(releaseStatement, [orgs]);
}

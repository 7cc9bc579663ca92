import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Database, Transaction } from './database.js';
import { StorageError } from './database.js';

/** One advisory lock of the database, held by whoever migrates: an arbitrary number, the same in every version. */
const migrationLock = 7_305_810_211;

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly text: string;
}

/**
 * Brings the schema to the newest version this program knows: forward only, one migration a transaction, one migrator at a time.
 * Returns the migrations it applied. Refuses a schema newer than the program, which would not know how to keep its promises.
 */
export async function migrate(
  database: Database,
  onProgress: (text: string) => void,
  migrations: readonly Migration[] = readMigrations(),
): Promise<readonly Migration[]> {
  const newest = migrations.at(-1)?.version ?? 0;
  const current = await database.transaction({ role: 'owner', priority: 'read' }, schemaVersion);
  if (current > newest) throw newerSchema(current, newest);
  const applied: Migration[] = [];
  for (const migration of migrations.filter(({ version }) => version > current)) {
    await database.transaction({ role: 'owner' }, async (tx) => {
      if ((await schemaVersion(tx)) >= migration.version) return;
      // Another node may be at it: wait for it, then read again under the lock.
      await tx.script(`SET LOCAL lock_timeout = '12s'; SET LOCAL statement_timeout = '12s'`);
      await tx.query({ name: 'migrate_lock', text: 'SELECT pg_advisory_xact_lock($1)' }, [migrationLock]);
      if ((await schemaVersion(tx)) >= migration.version) return;
      onProgress(`applying migration ${migration.name}`);
      await tx.script(migration.text);
      await tx.query({ name: 'migrate_record', text: 'INSERT INTO schema_migrations VALUES ($1, $2, now())' }, [
        migration.version,
        migration.name,
      ]);
      applied.push(migration);
    });
  }
  return applied;
}

/** The schema's version in the database (0: none), and the newest that this program knows. Changes nothing. */
export async function schemaVersions(
  database: Database,
): Promise<{ readonly stored: number; readonly newest: number }> {
  const stored = await database.transaction({ role: 'owner', priority: 'read' }, schemaVersion);
  return { stored, newest: readMigrations().at(-1)?.version ?? 0 };
}

async function schemaVersion(tx: Transaction): Promise<number> {
  const { rows } = await tx.query<{ exists: boolean }>({
    name: 'migrate_exists',
    // Not by to_regclass, which answers from what the session remembers: after the wait for another migrator that is out of date.
    text: `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migrations') AS exists`,
  });
  if (rows[0]?.exists !== true) return 0;
  const version = await tx.query<{ version: number }>({
    name: 'migrate_version',
    text: 'SELECT coalesce(max(version), 0) AS version FROM schema_migrations',
  });
  return version.rows[0]?.version ?? 0;
}

function newerSchema(version: number, newest: number): StorageError {
  return new StorageError(
    'sql',
    `the database has schema version ${version}, but this program knows only ${newest}: start a newer Sluice`,
  );
}

/** What this program knows, the oldest first. */
export function readMigrations(): Migration[] {
  const folder = fileURLToPath(new URL('../../../migrations/', import.meta.url));
  return readdirSync(folder)
    .filter((file) => /^\d{4}_.+\.sql$/.test(file))
    .toSorted()
    .map((file) => ({
      version: Number(file.slice(0, 4)),
      name: file.slice(0, -4),
      text: readFileSync(folder + file, 'utf8'),
    }));
}

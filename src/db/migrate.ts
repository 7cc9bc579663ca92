import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../clock.js';
import type { Database } from './database.js';
import { StorageError } from './database.js';
import { applyMigration } from './migration-steps.js';
import type { MigrateOptions } from './migration-steps.js';
import { isContract, locksOf, statementsOf, stepOf } from './migration-text.js';
import type { Migration } from './migration-text.js';
import { storedSchema } from './sql/migrations.js';
import type { StoredSchema } from './sql/migrations.js';

export type { Migration } from './migration-text.js';

/**
 * Brings the schema to the newest version this program knows, forward only, and returns the migrations that this call applied. Any number of
 * migrators may be at it at once, and one that was ended at any moment goes on where it was. Each step waits for a lock only briefly, so that nobody
 * queues behind it for long, and is tried again; rejects when that was often enough (some three minutes), or a step fails. A newer schema is left as
 * it is: see `requireUsableSchema`.
 */
export async function migrate(
  database: Database,
  onProgress: (text: string) => void,
  migrations: readonly Migration[] = readMigrations(),
  options: Partial<MigrateOptions> = {},
): Promise<readonly Migration[]> {
  const { clock = systemClock } = options;
  const stored = await storedSchema(database);
  requireUsable(stored, migrations);
  if (stored.version > newestOf(migrations)) {
    onProgress(`the database has schema version ${stored.version}, newer than this program, which can work on it`);
  }
  const applied: Migration[] = [];
  for (const migration of migrations.filter(({ version }) => version > stored.version)) {
    const beganAtMs = clock.monotonic();
    if (!(await applyMigration(database, migration, onProgress, { clock, ...options }))) continue;
    applied.push(migration);
    onProgress(`applied ${migration.name} in ${((clock.monotonic() - beganAtMs) / 1000).toFixed(1)} s`);
  }
  return applied;
}

/** What `migrate` would do, one sentence a migration. Takes no lock and changes nothing. */
export async function planMigration(
  database: Database,
  migrations: readonly Migration[] = readMigrations(),
): Promise<{ readonly version: number; readonly sentences: readonly string[] }> {
  const stored = await storedSchema(database);
  requireUsable(stored, migrations);
  const missing = migrations.filter(({ version }) => version > stored.version);
  return {
    version: stored.version,
    sentences: missing.map((migration) => `${migration.name}: ${whatItDoes(migration)}`),
  };
}

function whatItDoes(migration: Migration): string {
  const step = stepOf(migration);
  if (step.kind === 'indexes') {
    const parts = step.statements.map(({ action, index, table }) =>
      action === 'create' ? `builds the index ${index} on ${table}` : `drops the index ${index}`,
    );
    return `${parts.join(', ')}; outside of a transaction, and others go on reading and writing`;
  }
  if (step.kind === 'backfill') {
    return `changes rows in small chunks${step.role === null ? '' : ` as ${step.role}`}, each in a transaction of its own`;
  }
  const locks = locksOf(migration.text).map(({ table, mode }) => `${table} (${mode})`);
  const hasBlock = statementsOf(migration.text).some((statement) => /^DO\b/i.test(statement));
  return (
    `one transaction; locks ${locks.length === 0 ? 'no table that is there' : locks.join(', ')}` +
    (hasBlock ? ', and what its DO blocks lock' : '')
  );
}

/** What a start does: migrates, or, if it is told not to, makes sure that nothing is missing. Rejects as these do. */
export async function bringUpSchema(
  database: Database,
  when: 'auto' | 'off',
  onProgress: (text: string) => void,
): Promise<void> {
  if (when === 'auto') await migrate(database, onProgress);
  else await requireUsableSchema(database);
}

/**
 * For a start that does not migrate. Rejects, with what to do, unless the program can work on the schema as it is: its own version, or a newer one
 * that has taken nothing away from it.
 */
export async function requireUsableSchema(
  database: Database,
  migrations: readonly Migration[] = readMigrations(),
): Promise<void> {
  const stored = await storedSchema(database);
  requireUsable(stored, migrations);
  const newest = newestOf(migrations);
  if (stored.version < newest) {
    throw new StorageError(
      'sql',
      `the database has schema version ${stored.version}, and this program needs ${newest}: run \`sluice migrate\`, which this start was told not to do`,
    );
  }
}

/** Throws where a newer program has taken away what this one needs. */
function requireUsable({ version, names }: StoredSchema, migrations: readonly Migration[]): void {
  const newest = newestOf(migrations);
  const contract = [...names].find(([each, name]) => each > newest && isContract(name));
  if (contract === undefined) return;
  throw new StorageError(
    'sql',
    `the database has schema version ${version}, this program knows only ${newest}, and ${contract[1]} took away what it needs: start a newer Sluice`,
  );
}

/** The schema's version in the database (0: none), and the newest that this program knows. Changes nothing. */
export async function schemaVersions(
  database: Database,
): Promise<{ readonly stored: number; readonly newest: number }> {
  return { stored: (await storedSchema(database)).version, newest: newestOf(readMigrations()) };
}

function newestOf(migrations: readonly Migration[]): number {
  return migrations.at(-1)?.version ?? 0;
}

/** What this program knows, the oldest first. Throws where two have the same number: which of them a database has could not be told. */
export function readMigrations(
  folder: string = fileURLToPath(new URL('../../../migrations/', import.meta.url)),
): Migration[] {
  const migrations = readdirSync(folder)
    .filter((file) => /^\d{4}_.+\.sql$/.test(file))
    .toSorted()
    .map((file) => ({
      version: Number(file.slice(0, 4)),
      name: file.slice(0, -4),
      text: readFileSync(join(folder, file), 'utf8'),
    }));
  const twice = migrations.find(({ version }, i) => version === migrations[i + 1]?.version);
  if (twice !== undefined) throw new Error(`two migrations have the number ${twice.version}`);
  return migrations;
}

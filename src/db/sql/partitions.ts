import type { Database } from '../database.js';
import { StorageError } from '../database.js';

const dayMs = 86_400_000;

/** The partition that holds the events of a day (days since 1970-01-01), named for people by its date. */
export function partitionName(day: number): string {
  return `events_${new Date(day * dayMs).toISOString().slice(0, 10).replaceAll('-', '')}`;
}

/** The day of a partition, from its name. */
export function partitionDay(name: string): number {
  const [, year, month, day] = /^events_(\d{4})(\d\d)(\d\d)$/.exec(name) ?? [];
  return Date.UTC(Number(year), Number(month) - 1, Number(day)) / dayMs;
}

const existingStatement = {
  name: 'partitions_existing',
  text: `SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'events'::regclass`,
};

export async function existingPartitions(database: Database): Promise<ReadonlySet<string>> {
  const { rows } = await database.query<{ name: string }>({ role: 'owner', priority: 'read' }, existingStatement);
  return new Set(rows.map((row) => row.name));
}

/** The days that have a partition, in order. */
export async function partitionDays(database: Database): Promise<number[]> {
  const names = [...(await existingPartitions(database))];
  const days = names.map((name) => Date.parse(name.replace(/^events_(\d{4})(\d{2})(\d{2})$/, '$1-$2-$3')) / dayMs);
  return days.filter(Number.isInteger).toSorted((a, b) => a - b);
}

/**
 * Makes the partition of one day. It is built apart and attached, which locks the parent far less than `PARTITION OF` would; it has no
 * policy and no grant but INSERT for the ingest role, because whoever else may read an event reads it through the parent, where the policy is.
 */
export async function createPartition(database: Database, day: number): Promise<void> {
  const name = partitionName(day);
  try {
    await database.transaction({ role: 'owner' }, (tx) =>
      tx.script(`
        SET LOCAL lock_timeout = '2s';
        CREATE TABLE ${name} (LIKE events INCLUDING ALL);
        GRANT INSERT ON ${name} TO sluice_ingest;
        ALTER TABLE events ATTACH PARTITION ${name} FOR VALUES FROM (${day}) TO (${day + 1})`),
    );
  } catch (error) {
    if (!(error instanceof StorageError && takenSqlstates.has(error.sqlstate ?? ''))) throw error;
  }
}

/** Another node was quicker: by much (duplicate table), or at the same moment (a duplicate in the catalog's unique indexes). */
const takenSqlstates = new Set(['42P07', '42710', '23505']);

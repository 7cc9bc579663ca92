import type { Database } from '../database.js';
import { StorageError } from '../database.js';
import { partitionName } from './partitions.js';

const probeStatement = {
  name: 'probe',
  // With a number of its own, the transaction has a commit that must reach the disk.
  text: 'SELECT to_regclass($1) IS NOT NULL AS partition, pg_current_xact_id() IS NULL AS standby',
};

/** Rejects where an event of this day could not be stored: no session, a standby, a full disk, no partition. */
export async function probeStorage(database: Database, day: number): Promise<void> {
  const { rows } = await database.query<{ partition: boolean; standby: boolean }>({ role: 'ingest' }, probeStatement, [
    partitionName(day),
  ]);
  if (rows[0]?.partition !== true || rows[0].standby) {
    throw new StorageError('unavailable', 'the database is a standby, or has no partition for today');
  }
}

import { StorageError } from './database.js';
import type { WireSession } from './wire-session.js';

const wanted = { fsync: 'on', wal_sync_method: 'fsync', full_page_writes: 'on', timezone: 'UTC' };

/**
 * Refuses an engine whose commits would not be on disk: its settings must be those asked for, and a transaction that writes to the log
 * must have synced a file by the time its COMMIT is answered. `fsyncs` counts the syncs that reached the disk.
 */
export async function verifyDurability(session: WireSession, fsyncs: () => number): Promise<void> {
  const names = Object.keys(wanted);
  const columns = names.map((name) => `current_setting('${name}') AS ${name}`).join(', ');
  const [actual] = await session.run<Record<string, string>>(`SELECT ${columns}`);
  for (const [name, value] of Object.entries(wanted)) {
    if (actual?.[name] !== value) {
      throw new StorageError(
        'unavailable',
        `the engine runs with ${name} = ${actual?.[name]} instead of ${value}; refusing to start`,
      );
    }
  }
  // A message in the log is the smallest transaction there is that must be flushed; it leaves no row behind.
  await session.run("BEGIN; SELECT pg_logical_emit_message(true, 'sluice', 'durability probe')");
  const before = fsyncs();
  await session.run('COMMIT');
  if (fsyncs() <= before) {
    throw new StorageError('unavailable', 'this build of the engine does not sync to disk; refusing to start');
  }
}

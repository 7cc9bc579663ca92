import { randomBytes } from 'node:crypto';
import type { Database } from '../database.js';

const readStatement = { name: 'secret_cursor', text: `SELECT value FROM server_secrets WHERE name = 'cursor'` };
const makeStatement = {
  name: 'secret_make',
  text: `INSERT INTO server_secrets VALUES ('cursor', $1) ON CONFLICT DO NOTHING`,
};
const forgetStatement = { name: 'secret_forget', text: 'DELETE FROM server_secrets' };

/** The secret that signs cursors, the same on every node of an installation. A database that has none, as a prepared one, gets one. */
export async function cursorSecret(database: Database): Promise<Buffer> {
  const kept = await read(database);
  if (kept !== undefined) return kept;
  await database.query({ role: 'owner' }, makeStatement, [randomBytes(32)]);
  // Not the one just made: another node may have been first.
  const made = await read(database);
  if (made === undefined) throw new Error('the database keeps no secret for cursors; was the schema changed by hand?');
  return made;
}

/** Removes every secret of a database that is about to be copied. */
export async function forgetSecrets(database: Database): Promise<void> {
  await database.query({ role: 'owner' }, forgetStatement);
}

async function read(database: Database): Promise<Buffer | undefined> {
  return (await database.query<{ value: Buffer }>({ role: 'owner', priority: 'read' }, readStatement)).rows[0]?.value;
}

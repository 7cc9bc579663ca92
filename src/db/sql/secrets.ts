import type { Database } from '../database.js';

const cursorSecretStatement = { name: 'secret_cursor', text: `SELECT value FROM server_secrets WHERE name = 'cursor'` };

/** The secret that signs cursors, the same on every node of an installation. */
export async function readCursorSecret(database: Database): Promise<Buffer> {
  const { rows } = await database.query<{ value: Buffer }>({ role: 'owner', priority: 'read' }, cursorSecretStatement);
  const secret = rows[0]?.value;
  if (secret === undefined) throw new Error('the database has no secret for cursors; was the schema changed by hand?');
  return secret;
}

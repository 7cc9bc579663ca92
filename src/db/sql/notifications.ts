import type { Database } from '../database.js';

/** Carries the orgs, comma-separated, whose logs have grown. */
export const appendedChannel = 'sluice_appended';

const notifyStatement = {
  name: 'notify_appended',
  text: `SELECT pg_notify('${appendedChannel}', orgs) FROM unnest($1::text[]) AS orgs`,
};

export async function notifyAppended(database: Database, orgLists: readonly string[]): Promise<void> {
  await database.query({ role: 'app' }, notifyStatement, [orgLists]);
}

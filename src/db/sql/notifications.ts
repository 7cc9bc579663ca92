import type { Database } from '../database.js';

/** Carries the orgs, comma-separated, whose logs have grown; or `*`, for all. */
export const appendedChannel = 'sluice_appended';

const notifyStatement = {
  name: 'notify_appended',
  // A commit with a notification holds a lock that every other one waits for, so it must not wait for the disk or a standby: it stores nothing.
  text: `
    SELECT set_config('synchronous_commit', 'off', true), pg_notify('${appendedChannel}', orgs)
    FROM unnest($1::text[]) AS orgs`,
};

export async function notifyAppended(database: Database, orgLists: readonly string[]): Promise<void> {
  // As a read: its outcome concerns nobody. As the owner, it needs no transaction around it, which would double its cost.
  await database.query({ role: 'owner', priority: 'read' }, notifyStatement, [orgLists]);
}

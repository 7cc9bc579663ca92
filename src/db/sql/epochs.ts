import { compareOrgs } from '../../ids.js';
import type { Database } from '../database.js';

const firstMs = Date.UTC(2026, 0, 1);
/** An epoch has 24 bits in an event's id. What a clock gone wrong can use up leaves some. */
const floorMax = 2 ** 24 - 2 ** 16;

/**
 * What an epoch is at least when it is raised at this moment: the minutes since 2026, for 31 years. One more than the last would not do: a backup may be older
 * than the last raise, and the log that was lost have had that very epoch.
 */
export function epochFloor(nowMs: number): number {
  return Math.min(floorMax, Math.max(0, Math.floor((nowMs - firstMs) / 60_000)));
}

/**
 * How far positions jump with an epoch, at random, for logs that are raised twice from the same backup within a minute, or faster than once a minute. They have
 * 48 bits in an event's id: enough for half a million raises.
 */
export const positionJumpMax = 2 ** 30;

const forgetStatement = {
  name: 'epochs_forget_run',
  // In the order in which every batch takes its locks.
  text: `
    UPDATE heads SET server_run = NULL WHERE org IN (SELECT org FROM heads WHERE org > $1 ORDER BY org LIMIT $2 FOR UPDATE)
    RETURNING org`,
};

/**
 * From now on the next batch of each org raises its epoch, whatever the server says of itself. Returns how many orgs there are. Beside batches that store
 * it takes its turns, `atOnce` orgs a transaction, so that none waits long; ended in the middle, it is called again.
 */
export async function raiseAllEpochs(database: Database, atOnce = 500): Promise<number> {
  let orgs = 0;
  for (let after = '0'; ;) {
    const { rows } = await database.query<{ org: string }>({ role: 'ingest' }, forgetStatement, [after, atOnce]);
    orgs += rows.length;
    if (rows.length < atOnce) return orgs;
    after = rows.map(({ org }) => org).reduce((a, b) => (compareOrgs(a, b) > 0 ? a : b));
  }
}

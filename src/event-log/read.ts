import type { Database, Transaction } from '../db/database.js';
import type { EventRow } from '../db/sql/events.js';
import { findEvent } from '../db/sql/events.js';
import type { EventAddress } from './event-id.js';

/** The event at an address of this org's log; null if there is none, or the address is another org's. */
export async function readEvent(
  database: Database,
  org: string,
  address: EventAddress,
  wantsPayload: boolean,
): Promise<EventRow | null> {
  if (address.org !== org) return null;
  const scope = { role: 'app', org, priority: 'read' } as const;
  // A query of its own has its COMMIT sent with it: the engine's one session is not held for another turn of a busy event loop.
  const single: Pick<Transaction, 'query'> = { query: (statement, values) => database.query(scope, statement, values) };
  return findEvent(single, org, address, wantsPayload);
}

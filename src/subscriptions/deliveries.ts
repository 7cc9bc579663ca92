import type { Database } from '../db/database.js';
import type { DeliveryRow } from '../db/sql/deliveries.js';
import { readDeliveries } from '../db/sql/deliveries.js';
import { existingEvents } from '../db/sql/events.js';
import { readHead } from '../db/sql/subscriptions.js';
import type { AcknowledgedAddress } from './acknowledge.js';
import { wants } from './filter.js';

export interface Delivery {
  readonly subscription: string;
  readonly kind: 'inbox' | 'webhook';
  readonly state: 'pending' | 'leased' | 'delivered' | 'dead' | 'filtered' | 'skipped';
  /** Null once it is delivered, and where it never was to be. */
  readonly attempts: number | null;
  /** When it is handed out again at the latest; null where that is now, or never. */
  readonly nextAttemptAtMs: number | null;
}

/** What became of an event, for every subscription of its org. Null: the log holds no such event. */
export function deliveriesOf(
  database: Database,
  org: string,
  address: AcknowledgedAddress,
  nowMs: number,
): Promise<readonly Delivery[] | null> {
  return database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
    const head = await readHead(tx, org);
    if (head === null || address.day < head.firstDay || address.day > head.day) return null;
    const [event] = await existingEvents(tx, org, [address]);
    if (event === undefined) return null;
    const rows = await readDeliveries(tx, org, event.position);
    return rows.map((row) => ({
      subscription: row.name,
      kind: row.kind,
      ...(wants(row.filters, event.position, event.type) ? stateOf(row, nowMs) : nothingMore('filtered')),
    }));
  });
}

type State = Pick<Delivery, 'state' | 'attempts' | 'nextAttemptAtMs'>;

function stateOf(row: DeliveryRow, nowMs: number): State {
  if (row.dead_attempts !== null) return { state: 'dead', attempts: row.dead_attempts, nextAttemptAtMs: null };
  if (row.attempt !== null && row.available_at !== null) return heldState(row, row.attempt, row.available_at, nowMs);
  if (row.skipped) return nothingMore('skipped');
  if (row.passed || row.ahead) return nothingMore('delivered');
  return { state: 'pending', attempts: 0, nextAttemptAtMs: null };
}

function heldState(row: DeliveryRow, attempts: number, availableAt: Date, nowMs: number): State {
  const atMs = availableAt.getTime();
  const isOut = atMs > nowMs && row.waiting === false;
  if (!isOut && attempts >= row.max_attempts) return { state: 'dead', attempts, nextAttemptAtMs: null };
  const mayComeAgain = attempts < row.max_attempts && atMs > nowMs;
  return { state: isOut ? 'leased' : 'pending', attempts, nextAttemptAtMs: mayComeAgain ? atMs : null };
}

function nothingMore(state: 'delivered' | 'filtered' | 'skipped'): State {
  return { state, attempts: null, nextAttemptAtMs: null };
}

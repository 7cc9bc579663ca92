import type { AuditedChange } from '../audit-chain.js';
import type { Database, Transaction } from '../db/database.js';
import { recordChanges } from '../db/sql/audit.js';
import type { LeaseRow } from '../db/sql/leases.js';
import {
  deleteDeadAt,
  deleteDeadFrom,
  dyingLeases,
  insertLease,
  leasesHolding,
  removeFromLeases,
} from '../db/sql/leases.js';
import { lockSubscription, moveSubscription } from '../db/sql/subscriptions.js';
import type { AcknowledgedAddress } from './acknowledge.js';
import { PositionSet } from './position-set.js';
import { unmoved } from './receive.js';
import { storedPositions } from './release.js';

export interface RedriveRequest {
  readonly org: string;
  readonly subscription: number;
  readonly what: { readonly addresses: readonly AcknowledgedAddress[] } | 'all';
  readonly nowMs: number;
  /** The id of the row of what waits now; no lease has it. */
  readonly waitingId: string;
  /** Recorded where anything changes. */
  readonly audited?: AuditedChange;
}

/**
 * Makes dead letters pending again, their attempts counted anew. Returns how many of those that were named; null if there is no such subscription.
 */
export function redrive(database: Database, request: RedriveRequest): Promise<number | null> {
  const { org, subscription, what } = request;
  return database.transaction({ role: 'app', org }, async (tx) => {
    const state = await lockSubscription(tx, org, subscription);
    if (state === null) return null;
    const wanted = what === 'all' ? null : await storedPositions(tx, org, what.addresses);
    if (wanted?.length === 0) return 0;
    const dead =
      wanted === null
        ? await deleteDeadFrom(tx, org, subscription, 0)
        : await deleteDeadAt(tx, org, subscription, wanted);
    const dying = await takeDying(tx, request, state.max_attempts, wanted);
    const fromDying = dying.map((lease) => PositionSet.parse(lease.positions));
    const buried = PositionSet.of(dead.map(({ position }) => position).toSorted((a, b) => a - b));
    const positions = PositionSet.union([buried, ...fromDying]);
    if (positions.isEmpty) return 0;
    const days = [...dead.map(({ day }) => day), ...dying.flatMap((lease) => [lease.first_day, lease.last_day])];
    await insertLease(tx, org, subscription, {
      lease: request.waitingId,
      attempt: 0,
      availableAt: new Date(request.nowMs),
      positions: positions.toString(),
      days: days.reduce(({ first, last }, day) => ({ first: Math.min(first, day), last: Math.max(last, day) }), {
        first: Infinity,
        last: -Infinity,
      }),
      waiting: true,
    });
    const change = { heldChange: dead.length, deadChange: -dead.length };
    await moveSubscription(tx, org, subscription, unmoved(state, change));
    if (request.audited !== undefined) await recordChanges(tx, org, request.audited);
    return positions.size;
  });
}

/** Takes what is dead, but no row of it yet, out of the leases that hold it. Each comes with the positions taken. */
async function takeDying(
  tx: Transaction,
  { org, subscription, nowMs }: RedriveRequest,
  attemptsMax: number,
  wanted: readonly number[] | null,
): Promise<LeaseRow[]> {
  const dying = await dyingLeases(tx, org, subscription, new Date(nowMs), attemptsMax);
  if (dying.length === 0) return [];
  const ids = new Set(dying.map((lease) => lease.lease));
  const holding =
    wanted === null ? dying : await leasesHolding(tx, org, subscription, PositionSet.of(wanted).toString());
  const taken = holding.filter((lease) => ids.has(lease.lease));
  for (const lease of taken) await removeFromLeases(tx, org, subscription, [lease.lease], lease.positions);
  return taken;
}

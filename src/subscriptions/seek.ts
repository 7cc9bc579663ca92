import type { Database, Transaction } from '../db/database.js';
import type { AuditedChange } from '../audit-chain.js';
import { recordChanges } from '../db/sql/audit.js';
import { deleteDeadFrom, leasesHolding, removeFromLeases } from '../db/sql/leases.js';
import type { Head } from '../db/sql/subscriptions.js';
import { lockSubscription, moveSubscription, readHead, setSkipped } from '../db/sql/subscriptions.js';
import { Problem } from '../errors.js';
import type { AcknowledgedAddress } from './acknowledge.js';
import { PositionSet } from './position-set.js';
import { storedPositions } from './release.js';
import { positionAt } from './position-at.js';

/** A place in the log: its beginning, its end, the first event received at a time or later, or an event. */
export type SeekTarget =
  | { readonly to: 'beginning' }
  | { readonly to: 'now' }
  | { readonly to: 'time'; readonly atMs: number }
  | { readonly to: 'event'; readonly address: AcknowledgedAddress };

/** Separate stretches of the log that a subscription may have passed over: each seek ahead makes one more at most. */
export const skippedRangesMax = 1_000;

/**
 * Puts the subscription where it hands out the target next, and then everything after it, whatever it had done with it before; leases and dead
 * letters from the target on end; `audited` is recorded with it. What lies between the old place and a target further on is skipped. False: the target is no event of this
 * log. Null: there is no such subscription. Throws `limit_reached` past `skippedRangesMax`.
 */
export function seek(
  database: Database,
  org: string,
  subscription: number,
  target: SeekTarget,
  audited: AuditedChange | null = null,
): Promise<boolean | null> {
  return database.transaction({ role: 'app', org }, async (tx) => {
    const state = await lockSubscription(tx, org, subscription);
    const head = await readHead(tx, org);
    if (state === null || head === null) return null;
    const next = await resolveTarget(tx, org, head, target);
    if (next === null) return false;
    const from = `{[${next.position},)}`;
    const leases = await leasesHolding(tx, org, subscription, from);
    await removeFromLeases(
      tx,
      org,
      subscription,
      leases.map(({ lease }) => lease),
      from,
    );
    const dead = await deleteDeadFrom(tx, org, subscription, next.position);
    const skipped = skippedBy(state, next.position);
    if (skipped.ranges.length > skippedRangesMax) throw tooScattered();
    await setSkipped(tx, org, subscription, skipped.toString());
    await moveSubscription(tx, org, subscription, {
      cursor: next.position - 1,
      cursorDay: next.day,
      ahead: '{}',
      heldChange: -leases.reduce((sum, { positions }) => sum + PositionSet.parse(positions).size, 0),
      deadChange: -dead.length,
    });
    if (audited !== null) await recordChanges(tx, org, audited);
    return true;
  });
}

/** Where reading begins for a target; its day is not after that of any event there or further on. */
export async function resolveTarget(
  tx: Transaction,
  org: string,
  head: Head,
  target: SeekTarget,
): Promise<{ readonly position: number; readonly day: number } | null> {
  if (target.to === 'beginning') return { position: head.firstPosition, day: head.firstDay };
  if (target.to === 'now') return { position: head.position + 1, day: head.day };
  if (target.to === 'time') return positionAt(tx, org, head, target.atMs);
  const [position] = await storedPositions(tx, org, [target.address]);
  return position === undefined ? null : { position, day: target.address.day };
}

function skippedBy(
  state: { readonly cursor: string; readonly ahead: string; readonly skipped: string },
  next: number,
): PositionSet {
  const passed = PositionSet.range(Number(state.cursor) + 1, next).minus(PositionSet.parse(state.ahead));
  return PositionSet.union([PositionSet.parse(state.skipped), passed]).upTo(next - 1);
}

function tooScattered(): Problem {
  const detail = `Seeks have left more than ${skippedRangesMax} separate stretches of the log behind. Seek back to an event before them, or to the beginning.`;
  return new Problem('limit_reached', detail);
}

import type { Transaction } from '../db/database.js';
import { findBoundary } from '../db/sql/event-list.js';
import { firstPositionOf } from '../db/sql/position-at.js';
import type { Head } from '../db/sql/subscriptions.js';
import { formatTime } from '../time-format.js';
import { daysPerStatementMax } from './read-bounded.js';

/**
 * Where the events begin that were received at a time or later: every event below the position was received before it, and none from it on. Its
 * day is not after that of any event from there on. Costs a statement for every eight days without an event, and one for the day in question.
 */
export async function positionAt(
  tx: Transaction,
  org: string,
  head: Head,
  atMs: number,
): Promise<{ readonly position: number; readonly day: number }> {
  const wanted = Math.floor(atMs / 86_400_000);
  if (wanted < head.firstDay) return { position: head.firstPosition, day: head.firstDay };
  for (let day = wanted; day <= head.day;) {
    const last = Math.min(head.day, day + daysPerStatementMax - 1);
    const first = await firstPositionOf(tx, org, { first: day, last });
    day = last + 1;
    if (first === null) continue;
    if (first.day > wanted) return first;
    const position = await findBoundary(tx, org, wanted, formatTime(atMs));
    return { position: position ?? first.position, day: wanted };
  }
  return { position: head.position + 1, day: head.day };
}

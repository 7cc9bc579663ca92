import type { Transaction } from '../db/database.js';
import type { EventRow, ScanRow } from '../db/sql/events.js';
import { readEventsAt, scanEvents } from '../db/sql/events.js';
import type { DayRange } from '../db/sql/subscriptions.js';
import type { TypeFilter } from '../db/sql/type-filter.js';
import { PositionSet } from './position-set.js';

/** A reply that carries events stops here, but holds at least one. */
export const replyPayloadBytesMax = 4 * 1024 * 1024;
/** How many events one request looks at where a filter may pass over them. */
export const scannedEventsMax = 5_000;
/** How many days one statement may open: each is a partition to plan for and to lock. */
export const daysPerStatementMax = 8;
/** How many statements one request may spend on days without any event. */
const statementsMax = 8;
/** How many separate ranges one statement is given to look into. */
export const rangesPerStatementMax = 1_000;

export interface Page {
  readonly events: readonly EventRow[];
  /** The last event looked at, whether the page holds it or the filter passed over it. Null if there was none. */
  readonly reached: { readonly position: number; readonly day: number } | null;
  /** The last day that was looked into; reading on may begin there. */
  readonly dayReached: number;
  /** Nothing is left at these positions and days. */
  readonly exhausted: boolean;
}

/** What a subscription wants, and what was asked for: both must want an event. */
export type Filters = readonly [own: TypeFilter | null, asked: TypeFilter | null];
export const everything: Filters = [null, null];

/**
 * Reads events at `positions` in log order, doing a bounded amount of work: at most `limit` events, `replyPayloadBytesMax` bytes,
 * `scannedEventsMax` events passed over by the filter, and a bounded number of days and statements. A page may be empty without being the last.
 */
export async function readBounded(
  tx: Transaction,
  org: string,
  positions: PositionSet,
  days: DayRange,
  filters: Filters,
  limit: number,
  wantsPayload: boolean,
): Promise<Page> {
  // One more than is asked for tells whether anything is left.
  const scanLimit = filters.every((filter) => filter === null) ? limit + 1 : scannedEventsMax;
  const [candidate, beyond] = positions.firstRanges(rangesToScan(positions, scanLimit));
  let day = days.first;
  for (let statement = 0; statement < statementsMax && day <= days.last && !candidate.isEmpty; statement++) {
    const window = { first: day, last: Math.min(days.last, day + daysPerStatementMax - 1) };
    const scanned = await scanEvents(tx, org, candidate.toString(), window, filters, scanLimit);
    const chosen = choose(scanned, limit, wantsPayload);
    if (scanned.length === 0) {
      day = window.last + 1;
      continue;
    }
    const at = chosen.rows.filter((row) => row.matches).map((row) => Number(row.position));
    const events =
      at.length === 0 ? [] : await readEventsAt(tx, org, PositionSet.of(at).toString(), window, wantsPayload);
    const last = chosen.rows.at(-1);
    const reached = last === undefined ? null : { position: Number(last.position), day: last.day };
    const allScanned = scanned.length < scanLimit && chosen.rows.length === scanned.length;
    return {
      events,
      reached,
      dayReached: reached?.day ?? day,
      exhausted: allScanned && window.last === days.last && beyond.isEmpty,
    };
  }
  const last = candidate.last;
  const daysDone = day > days.last || candidate.isEmpty;
  if (daysDone && last !== null && !beyond.isEmpty) {
    // None of the first ranges holds an event: on to the next ones, from the first day again.
    return { events: [], reached: { position: last, day: days.first }, dayReached: days.first, exhausted: false };
  }
  return { events: [], reached: null, dayReached: Math.min(day, days.last), exhausted: daysDone };
}

/** Each range is scanned up to the limit, so wide ones are scanned in few at a time: together they hold less than `scannedEventsMax` and one limit. */
function rangesToScan({ ranges }: PositionSet, scanLimit: number): number {
  let count = 0;
  let rows = 0;
  for (const [from, until] of ranges) {
    if (count === rangesPerStatementMax || rows >= scannedEventsMax) break;
    rows += Math.min(until - from, scanLimit);
    count++;
  }
  return count;
}

/** The first events at `positions`, however many days without any lie before them: empty only if there are none. */
export async function readNext(
  tx: Transaction,
  org: string,
  positions: PositionSet,
  days: DayRange,
  limit: number,
  wantsPayload: boolean,
): Promise<Page> {
  let page = await readBounded(tx, org, positions, days, everything, limit, wantsPayload);
  while (page.events.length === 0 && !page.exhausted) {
    const open = page.reached === null ? positions : positions.after(page.reached.position);
    page = await readBounded(
      tx,
      org,
      open,
      { first: page.dayReached, last: days.last },
      everything,
      limit,
      wantsPayload,
    );
  }
  return page;
}

/** Cuts what was scanned after `limit` matches, or where the next match would not fit in the reply. */
function choose(scanned: readonly ScanRow[], limit: number, countsBytes: boolean): { rows: readonly ScanRow[] } {
  let matches = 0;
  let bytes = 0;
  for (const [i, row] of scanned.entries()) {
    if (!row.matches) continue;
    if (countsBytes) bytes += row.bytes;
    if (matches === limit || (matches > 0 && bytes > replyPayloadBytesMax)) return { rows: scanned.slice(0, i) };
    matches++;
  }
  return { rows: scanned };
}

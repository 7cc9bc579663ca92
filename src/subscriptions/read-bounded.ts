import type { Transaction } from '../db/database.js';
import type { EventRow, ScanRow } from '../db/sql/events.js';
import { readEventsAt, readFirstEvents, scanEvents } from '../db/sql/events.js';
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
  const isFiltered = filters.some((filter) => filter !== null);
  const scanLimit = isFiltered ? scannedEventsMax : limit + 1;
  const [candidate, beyond] = positions.firstRanges(rangesToScan(positions, scanLimit));
  let day = days.first;
  for (let statement = 0; statement < statementsMax && day <= days.last && !candidate.isEmpty; statement++) {
    const window = { first: day, last: Math.min(days.last, day + daysPerStatementMax - 1) };
    const look = isFiltered ? readMatching : readFirst;
    const { events, reached, more } = await look(tx, org, candidate, window, filters, limit, wantsPayload);
    if (reached === null) {
      day = window.last + 1;
      continue;
    }
    return {
      events,
      reached,
      dayReached: reached.day,
      exhausted: !more && window.last === days.last && beyond.isEmpty,
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

interface Looked {
  readonly events: readonly EventRow[];
  /** The last event that was looked at; null if there was none. */
  readonly reached: Page['reached'];
  /** There may be another one behind it. */
  readonly more: boolean;
}

async function readFirst(
  tx: Transaction,
  org: string,
  positions: PositionSet,
  days: DayRange,
  _filters: Filters,
  limit: number,
  wantsPayload: boolean,
): Promise<Looked> {
  const text = positions.toString();
  const { events, more } = await readFirstEvents(tx, org, text, days, limit, replyPayloadBytesMax, wantsPayload);
  return { events, reached: placeOf(events.at(-1)), more };
}

/** Scans first, so that of what the filter passes over nothing is read but what the filter needs. */
async function readMatching(
  tx: Transaction,
  org: string,
  positions: PositionSet,
  days: DayRange,
  filters: Filters,
  limit: number,
  wantsPayload: boolean,
): Promise<Looked> {
  const scanned = await scanEvents(tx, org, positions.toString(), days, filters, scannedEventsMax);
  const chosen = choose(scanned, limit, wantsPayload);
  const at = PositionSet.of(chosen.filter((row) => row.matches).map((row) => Number(row.position)));
  const events = at.isEmpty ? [] : await readEventsAt(tx, org, at.toString(), days, wantsPayload);
  const more = scanned.length === scannedEventsMax || chosen.length < scanned.length;
  return { events, reached: placeOf(chosen.at(-1)), more };
}

function placeOf(row: { readonly position: string; readonly day: number } | undefined): Page['reached'] {
  return row === undefined ? null : { position: Number(row.position), day: row.day };
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
function choose(scanned: readonly ScanRow[], limit: number, countsBytes: boolean): readonly ScanRow[] {
  let matches = 0;
  let bytes = 0;
  for (const [i, row] of scanned.entries()) {
    if (!row.matches) continue;
    if (countsBytes) bytes += row.bytes;
    if (matches === limit || (matches > 0 && bytes > replyPayloadBytesMax)) return scanned.slice(0, i);
    matches++;
  }
  return scanned;
}

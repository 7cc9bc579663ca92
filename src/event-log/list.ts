import type { Database, Transaction } from '../db/database.js';
import type { ListOrder, ListedRow, LogEnds, Stretch } from '../db/sql/event-list.js';
import { findBoundary, readListed, readLogEnds, scanList } from '../db/sql/event-list.js';
import type { EventRow } from '../db/sql/events.js';
import type { TypeFilter } from '../db/sql/type-filter.js';
import { formatTime } from '../time-format.js';

export type { ListOrder } from '../db/sql/event-list.js';

/** How many events one page looks at where a filter passes over them. */
export const scannedEventsMax = 5_000;
/**
 * How many days one statement may open: each is a partition to plan for and to lock. 32 of them cost 2.8 ms on PostgreSQL and 5 ms on the embedded
 * engine, 8 of them 0.7 and 1.7 ms; but the default retention fits in, so that most orgs get a page from all of their days at once.
 */
export const listedDaysMax = 32;
/** How many statements one page may spend on days in which there is nothing. */
const windowsMax = 4;

/** A place in an org's log. The day says which partition. */
export interface LogPlace {
  readonly position: number;
  readonly day: number;
}

/**
 * Where the next page of a walk begins, and where the walk ends, both included. Without an end it goes as far as the log does by then: to its head,
 * or to what retention has left of its beginning.
 */
export interface Walk {
  readonly next: LogPlace;
  readonly end: LogPlace | null;
}

export interface ListRequest {
  readonly org: string;
  readonly order: ListOrder;
  readonly types: TypeFilter | null;
  /** Milliseconds since the Unix epoch: only what was received at or after `sinceMs`, and before `untilMs`. */
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
  readonly limit: number;
  /** What the events may take in a reply; one event may take more. */
  readonly bytesMax: number;
  readonly wantsPayload: boolean;
  /** Where the page before this one ended; null: the first page. */
  readonly from: Walk | null;
}

export interface ListPage {
  readonly events: readonly EventRow[];
  /** Null: nothing is left of the walk, as the log is now. */
  readonly next: Walk | null;
  readonly ends: LogEnds;
}

/**
 * One page of a walk over an org's log, with a bounded amount of work: the same few statements for any limit, at most `scannedEventsMax` events
 * that the filter passes over, at most `listedDaysMax` days a statement. A page may be empty without being the last. Null if the org is gone.
 *
 * What happens to the log during a walk: events that are appended are seen by a walk in log order, at its end (unless `untilMs` is before them), and
 * not by one against it, which begins at the head of its first page. Events that retention removes are passed over. No event is seen twice.
 */
export async function listEvents(database: Database, request: ListRequest): Promise<ListPage | null> {
  const { org, order } = request;
  // The events themselves are not waited for inside the transaction, so that COMMIT leaves with their statement.
  const page = await database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
    const ends = await readLogEnds(tx, org);
    if (ends === null) return null;
    let walk = await resolveWalk(tx, ends, request);
    for (let windows = 0; walk !== null && windows < windowsMax; windows++) {
      const open = stretchOf(walk, ends, order);
      if (isEmpty(open)) break;
      const { events, looked, next }: Looked = await readStretch(tx, request, firstDays(open, order));
      walk = { next, end: walk.end };
      if (looked) return { events, next: isEmpty(stretchOf(walk, ends, order)) ? null : walk, ends };
    }
    const isDone = walk === null || isEmpty(stretchOf(walk, ends, order));
    return { events: [], next: isDone ? null : walk, ends };
  });
  return page && { ...page, events: await page.events };
}

/** The walk of a request, its ends as far as they are known by now. Null: nothing is in it. */
async function resolveWalk(tx: Transaction, ends: LogEnds, request: ListRequest): Promise<Walk | null> {
  const { order, sinceMs, untilMs, from } = request;
  const isOpen = order === 'asc' && untilMs !== null && (from === null || from.end === null);
  if (from !== null && !isOpen) return from;
  const last = untilMs === null ? null : await placeBefore(tx, request.org, ends, untilMs);
  if (last === 'none') return null;
  if (from !== null) return { next: from.next, end: last };
  const first = sinceMs === null ? null : await placeFrom(tx, request.org, ends, sinceMs);
  if (first === 'none') return null;
  if (order === 'asc') return { next: first ?? beginningOf(ends), end: last };
  return { next: last ?? headOf(ends), end: first };
}

/** Where the events begin that were received at or after a time. Null: all were. `none`: none was. */
async function placeFrom(tx: Transaction, org: string, ends: LogEnds, ms: number): Promise<LogPlace | 'none' | null> {
  if (ms > ends.receivedAtMs) return 'none';
  const day = dayOf(ms);
  if (day < ends.firstDay) return null;
  return { position: (await findBoundary(tx, org, day, formatTime(ms))) ?? ends.firstPosition, day };
}

/**
 * Where the events end that were received before a time. Null: all were, and what is stored next may be, too. `none`: none was. A time that is not
 * after the last batch's is before all that is to come.
 */
async function placeBefore(tx: Transaction, org: string, ends: LogEnds, ms: number): Promise<LogPlace | 'none' | null> {
  if (ms > ends.receivedAtMs) return null;
  const day = dayOf(ms);
  if (day < ends.firstDay) return 'none';
  const boundary = await findBoundary(tx, org, day, formatTime(ms));
  return { position: boundary === null ? ends.position : boundary - 1, day };
}

/** The day that an event of this time is filed under: the only one in which there can be events on both sides of the time. */
function dayOf(ms: number): number {
  return Math.floor(ms / 86_400_000);
}

function beginningOf({ firstPosition, firstDay }: LogEnds): LogPlace {
  return { position: firstPosition, day: firstDay };
}

function headOf({ position, day }: LogEnds): LogPlace {
  return { position, day };
}

/** What is left of a walk in the log as it is. */
function stretchOf({ next, end }: Walk, ends: LogEnds, order: ListOrder): Stretch {
  const [low, high] = order === 'asc' ? [next, end ?? headOf(ends)] : [end ?? beginningOf(ends), next];
  return {
    firstPosition: Math.max(low.position, ends.firstPosition),
    lastPosition: Math.min(high.position, ends.position),
    days: { first: Math.max(low.day, ends.firstDay), last: Math.min(high.day, ends.day) },
  };
}

function isEmpty({ firstPosition, lastPosition, days }: Stretch): boolean {
  return firstPosition > lastPosition || days.first > days.last;
}

/** As much of a stretch, from where the walk comes, as one statement may open. */
function firstDays(stretch: Stretch, order: ListOrder): Stretch {
  const { first, last } = stretch.days;
  const days =
    order === 'asc'
      ? { first, last: Math.min(last, first + listedDaysMax - 1) }
      : { first: Math.max(first, last - listedDaysMax + 1), last };
  return { ...stretch, days };
}

interface Looked {
  /** What is read along with COMMIT. If that fails, so does the transaction. */
  readonly events: Promise<readonly EventRow[]>;
  /** There was an event, wanted or not. */
  readonly looked: boolean;
  /** Where to look next. */
  readonly next: LogPlace;
}

async function readStretch(tx: Transaction, request: ListRequest, stretch: Stretch): Promise<Looked> {
  const { org, order, types, limit, bytesMax, wantsPayload } = request;
  // One more than is asked for tells whether anything is left.
  const scanMax = types === null ? limit + 1 : scannedEventsMax;
  const { rows, scanned, last } = await scanList(tx, org, stretch, order, types, scanMax, limit + 1, wantsPayload);
  const chosen = cutToFit(rows, limit, bytesMax);
  const events = readListed(tx, org, chosen, wantsPayload).then((found) =>
    order === 'asc' ? found : found.toReversed(),
  );
  events.catch(() => {});
  const isCut = chosen.length < rows.length;
  const reached = isCut ? chosen.at(-1) : last;
  const step = order === 'asc' ? 1 : -1;
  const position = reached ? reached.position + step : order === 'asc' ? stretch.firstPosition : stretch.lastPosition;
  const daysDone = !isCut && scanned < scanMax;
  const nextDay = order === 'asc' ? stretch.days.last + 1 : stretch.days.first - 1;
  return { events, looked: scanned > 0, next: { position, day: daysDone || !reached ? nextDay : reached.day } };
}

/** The first rows, up to the limit and as long as they fit in the reply; at least one. */
function cutToFit(rows: readonly ListedRow[], limit: number, bytesMax: number): readonly ListedRow[] {
  let bytes = 0;
  for (const [i, row] of rows.entries()) {
    bytes += row.bytes;
    if (i === limit || (i > 0 && bytes > bytesMax)) return rows.slice(0, i);
  }
  return rows;
}

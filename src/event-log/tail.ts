import type { Database } from '../db/database.js';
import type { LogEnds } from '../db/sql/event-list.js';
import { readLogEnds } from '../db/sql/event-list.js';
import type { EventRow } from '../db/sql/events.js';
import type { TypeFilter } from '../db/sql/type-filter.js';
import { findEvent } from '../db/sql/events.js';
import type { EventAddress } from './event-id.js';
import type { LogPlace } from './list.js';
import { listEvents } from './list.js';

/**
 * Where to read on behind an event: also behind one that is no longer stored, so that whoever was away for longer than the retention goes on with
 * what is left. Without an event: behind the newest. Null if there never was such an event in this log.
 */
export async function placeBehind(
  database: Database,
  org: string,
  after: EventAddress | null,
): Promise<LogPlace | null> {
  if (after !== null && after.org !== org) return null;
  return database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
    const ends = await readLogEnds(tx, org);
    if (ends === null) return null;
    if (after === null) return behind(ends);
    const isOlder = after.epoch < ends.epoch && after.day <= ends.day;
    const isOfToday = after.epoch === ends.epoch && after.position <= ends.position && after.day <= ends.day;
    if (!isOlder && !isOfToday) return null;
    if (isOfToday || (await findEvent(tx, org, after, false)) !== null) return behind(after);
    // The log was restored from a time before this event, and has given out positions again since: not before the day of this event, for days never
    // run backwards. So nothing is missed from the beginning of that day on.
    return { position: ends.firstPosition, day: after.day };
  });
}

export interface TailRequest {
  readonly org: string;
  readonly place: LogPlace;
  readonly types: TypeFilter | null;
  readonly limit: number;
  readonly bytesMax: number;
  readonly wantsPayload: boolean;
}

export interface Tail {
  readonly events: readonly EventRow[];
  /** Where to read on. */
  readonly place: LogPlace;
  /** There may be more already. */
  readonly more: boolean;
}

/** The next events of a log from a place on, with the bounds of a page of `listEvents`. Null if the org is gone. */
export async function readTail(database: Database, { place, ...request }: TailRequest): Promise<Tail | null> {
  const from = { next: place, end: null };
  const page = await listEvents(database, { ...request, order: 'asc', sinceMs: null, untilMs: null, from });
  if (page === null) return null;
  return { events: page.events, place: page.next?.next ?? behind(page.ends), more: page.next !== null };
}

function behind({ position, day }: Pick<LogEnds, 'position' | 'day'>): LogPlace {
  return { position: position + 1, day };
}

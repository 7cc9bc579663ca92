import type { Database, Transaction } from '../db/database.js';
import type { ErasedRows, ErasureCounts, ErasureRow, ErasureTable, FoundEvent } from '../db/sql/erasures.js';
import { advanceErasure, countErased, deleteSubjectEvents, lockErasure, scanSubject } from '../db/sql/erasures.js';
import { deleteDeadAt } from '../db/sql/leases.js';
import { lockSubscriptions } from '../db/sql/retention.js';
import type { SubscriptionRow } from '../db/sql/subscriptions.js';
import { releaseHeld } from './acknowledge.js';
import { wants } from './filter.js';
import { PositionSet } from './position-set.js';
import { daysPerStatementMax } from './read-bounded.js';

export interface EraseStepLimits {
  /** Events of any subject that one step looks at. */
  readonly scannedMax: number;
  /** Events that one step deletes. */
  readonly eventsMax: number;
}

export const eraseStepLimits: EraseStepLimits = { scannedMax: 5_000, eventsMax: 500 };

/** Statements that one step spends on days without events. */
const statementsMax = 8;

export interface EraseStep {
  readonly isDone: boolean;
  /** How many it deleted. */
  readonly events: number;
}

/**
 * One bounded step of the erasure of a subject: looks at the next events of the log and, in the same transaction, deletes those of the subject, takes
 * them out of every subscription and notes how far it came. So it may end at any moment, and any node goes on. `firstDay` is the first for which events
 * of any org are stored. Null if the erasure is done or gone, or another node is at a step of it.
 */
export function eraseStep(
  database: Database,
  org: string,
  erasure: string,
  firstDay: number,
  now: Date,
  limits: EraseStepLimits = eraseStepLimits,
): Promise<EraseStep | null> {
  return database.transaction({ role: 'app', org }, async (tx) => {
    const job = await lockErasure(tx, org, erasure);
    if (job === null) return null;
    const { place, found } = await findNext(tx, org, job, firstDay, limits);
    const erased = found.length === 0 ? {} : await erase(tx, org, found);
    const isDone = place.day > job.last_day;
    const counts = addCounts(job.counts, erased);
    await advanceErasure(tx, org, erasure, { ...place, counts, at: now, isDone });
    return { isDone, events: erased.events?.rows ?? 0 };
  });
}

interface Place {
  readonly position: number;
  readonly day: number;
}

/** The next events of the subject, and where to look on. */
async function findNext(
  tx: Transaction,
  org: string,
  job: ErasureRow & { readonly subject: string },
  firstDay: number,
  { scannedMax, eventsMax }: EraseStepLimits,
): Promise<{ readonly place: Place; readonly found: readonly FoundEvent[] }> {
  const { subject, last_day: lastDay } = job;
  const position = Number(job.position);
  let day = Math.max(job.day, firstDay);
  for (let statements = 0; statements < statementsMax && day <= lastDay; statements++) {
    const days = { first: day, last: Math.min(day + daysPerStatementMax - 1, lastDay) };
    const scan = await scanSubject(tx, org, subject, days, position, Number(job.last_position), scannedMax);
    day = days.last + 1;
    if (scan.reached === null) continue;
    const found = scan.found.slice(0, eventsMax);
    const last = found.at(-1);
    if (found.length < scan.found.length && last !== undefined) return { place: last, found };
    return { place: scan.scanned < scannedMax ? { position: scan.reached.position, day } : scan.reached, found };
  }
  return { place: { position, day }, found: [] };
}

/** Takes events out of all subscriptions, and out of the log. Their positions stay gaps. */
async function erase(tx: Transaction, org: string, events: readonly FoundEvent[]): Promise<ErasureCounts> {
  const positions = events.map(({ position }) => position);
  const dayOf = new Map(events.map(({ position, day }) => [position, day]));
  const [held, dead]: [number[], number[]] = [[], []];
  for (const state of await lockSubscriptions(tx, org)) {
    const { subscription } = state;
    const released = await releaseHeld(tx, org, subscription, positions);
    const buried = await deleteDeadAt(tx, org, subscription, positions);
    const pending = events.filter((event) => isPending(state, event)).length;
    if (released.length + buried.length + pending > 0) {
      await countErased(tx, org, subscription, { held: released.length, dead: buried.length, pending });
    }
    held.push(...released.map((position) => dayOf.get(position) ?? 0));
    dead.push(...buried.map(({ day }) => day));
  }
  const deleted = await deleteSubjectEvents(tx, org, events);
  const days = Array.from(deleted, ([day, rows]) => Array.from({ length: rows }, () => day)).flat();
  return { ...rowsOf('events', days), ...rowsOf('leases', held), ...rowsOf('dead_letters', dead) };
}

/** Whether the subscription has yet to hand it out. */
function isPending(state: SubscriptionRow, { position, type }: FoundEvent): boolean {
  if (position <= Number(state.cursor)) return false;
  return !PositionSet.parse(state.ahead).has(position) && wants(state.filters, position, type);
}

function rowsOf(table: ErasureTable, days: readonly number[]): ErasureCounts {
  if (days.length === 0) return {};
  const [first, last] = [Math.min(...days), Math.max(...days)];
  return { [table]: { rows: days.length, first_day: first, last_day: last } };
}

function addCounts(earlier: ErasureCounts, now: ErasureCounts): ErasureCounts {
  const sums: Partial<Record<ErasureTable, ErasedRows>> = { ...earlier };
  for (const [table, { rows, first_day: first, last_day: last }] of Object.entries(now) as [
    ErasureTable,
    ErasedRows,
  ][]) {
    const before = sums[table] ?? { rows: 0, first_day: first, last_day: last };
    sums[table] = {
      rows: before.rows + rows,
      first_day: Math.min(before.first_day, first),
      last_day: Math.max(before.last_day, last),
    };
  }
  return sums;
}

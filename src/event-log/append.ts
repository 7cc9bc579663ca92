import { encodeCopyRows } from '../db/copy-binary.js';
import type { Database, Scope, Transaction } from '../db/database.js';
import { StorageError } from '../db/database.js';
import type { Durability } from '../db/sql/durability.js';
import { weaker } from '../db/sql/durability.js';
import type { DedupEntry, Reservation } from '../db/sql/ingest.js';
import { dedupKey, findDedup, insertDedup, levelAfterCommit, reserve } from '../db/sql/ingest.js';
import { eventCopyColumns, eventCopyTarget } from '../db/sql/events.js';
import { compareOrgs } from '../ids.js';
import type { NewEvent } from './new-event.js';

/** Where an event stands in its org's log. */
export interface Place {
  readonly epoch: number;
  readonly position: number;
  readonly day: number;
  readonly receivedAtMs: number;
}

/** What became of one event of a batch. */
export type Appended =
  | { readonly kind: 'stored' | 'duplicate'; readonly place: Place }
  | { readonly kind: 'dedup_mismatch' }
  | { readonly kind: 'org_unknown' };

export interface BatchOutcome {
  /** In the order of the batch. */
  readonly events: readonly Appended[];
  readonly durability: Durability;
  readonly storedEvents: number;
}

/** Thrown when it is not known whether the batch is stored; `xid` names the transaction, `outcome` holds if it committed. */
export class BatchOutcomeUnknown extends Error {
  override readonly name = 'BatchOutcomeUnknown';
  constructor(
    readonly xid: string,
    readonly outcome: BatchOutcome,
    cause: unknown,
  ) {
    super('the connection broke while the batch was being committed', { cause });
  }
}

/**
 * What becomes of the rest of a batch when one of its events cannot be stored:
 * - `each`: every event has its own outcome.
 * - `all`: nothing is stored if one is refused, or one row fewer was written than was sent.
 * - `rehearse`: nothing is stored in any case. For finding the event that fails a batch.
 */
export type AppendMode = 'each' | 'all' | 'rehearse';

/** Thrown when a batch was rolled back because of its mode, with what would have become of each event. */
export class BatchRolledBack extends Error {
  override readonly name = 'BatchRolledBack';
  constructor(readonly events: readonly Appended[]) {
    super('the batch was rolled back: all of it was to be stored, or nothing');
  }
}

/**
 * Stores a batch, events of many orgs mixed, in one transaction: reserve, dedup, COPY, commit, in that order, each taking its locks in the
 * order of orgs. `lane`: whose connection. Resolves after the commit is as durable as the server makes it. Per org, positions follow the order of the batch.
 *
 * Rejects with `BatchRolledBack` as `mode` says, with a `StorageError` if nothing is stored (of kind `sql` with a data error's SQLSTATE if one event is to blame), with
 * `BatchOutcomeUnknown`, or with a `StorageError` of kind `outcome_unknown` if the server stored less than it was sent.
 */
export async function appendBatch(
  database: Database,
  batch: readonly NewEvent[],
  nowMs: number,
  mode: AppendMode = 'each',
  lane = 0,
): Promise<BatchOutcome> {
  let copies: Copy[] = [];
  let beforeCommit: { xid: string; outcome: BatchOutcome } | undefined;
  let outcome: BatchOutcome;
  /** The most that may be said of the commit, whatever reserve saw. */
  let levelMax: Durability = 'replicated';
  // The wait for the standby was cancelled: the commit is on this server alone.
  const onCommitWarning = (): void => {
    levelMax = weaker(levelMax, 'fsync');
  };
  const afterCommit = levelAfterCommit(database, (level) => {
    levelMax = weaker(levelMax, level);
    isAnswered = true;
  });
  let isAnswered = afterCommit === null;
  const scope: Scope = { role: 'ingest', lane, onCommitWarning, ...(afterCommit && { afterCommit }) };
  try {
    outcome = await database.transaction(scope, async (tx) => {
      const slots = assignSlots(batch);
      const reserved = await reserve(tx, sharesByOrg(slots), nowMs);
      const events = placeSlots(slots, reserved.byOrg);
      await settleDedup(tx, slots, events);
      if (mode === 'all' && events.some(isRefused)) throw new BatchRolledBack(events);
      copies = copyEvents(tx, slots, events);
      // A dedup id without its event would answer the client's next try with a lie, so these are counted before the commit.
      if (mode !== 'each' || slots.some(({ event }) => event.dedup !== null)) await verifyCounts(copies, 'unavailable');
      if (mode === 'rehearse') throw new BatchRolledBack(events);
      const storedEvents = copies.reduce((sum, { sent }) => sum + sent, 0);
      beforeCommit = { xid: reserved.xid, outcome: { events, durability: reserved.durability, storedEvents } };
      return beforeCommit.outcome;
    });
  } catch (error) {
    if (error instanceof StorageError && error.kind === 'outcome_unknown' && beforeCommit !== undefined) {
      throw new BatchOutcomeUnknown(beforeCommit.xid, beforeCommit.outcome, error);
    }
    throw error;
  }
  await verifyCounts(copies, 'outcome_unknown');
  return { ...outcome, durability: isAnswered ? weaker(outcome.durability, levelMax) : 'memory' };
}

function isRefused({ kind }: Appended): boolean {
  return kind === 'dedup_mismatch' || kind === 'org_unknown';
}

/** An event of the batch, or several that share a dedup id: then the first leads and the others follow its fate. */
interface Slot {
  readonly event: NewEvent;
  readonly index: number;
  readonly followers: { readonly event: NewEvent; readonly index: number }[];
  place: Place | null;
}

function assignSlots(batch: readonly NewEvent[]): Slot[] {
  const slots: Slot[] = [];
  const leaders = new Map<string, Slot>();
  for (const [index, event] of batch.entries()) {
    const key = event.dedup === null ? null : dedupKey(event.org, event.dedup.id);
    const leader = key === null ? undefined : leaders.get(key);
    if (leader !== undefined) {
      leader.followers.push({ event, index });
      continue;
    }
    const slot: Slot = { event, index, followers: [], place: null };
    if (key !== null) leaders.set(key, slot);
    slots.push(slot);
  }
  return slots;
}

/** How many positions each org needs. */
function sharesByOrg(slots: readonly Slot[]): ReadonlyMap<string, number> {
  const shares = new Map<string, number>();
  for (const { event } of slots) shares.set(event.org, (shares.get(event.org) ?? 0) + 1);
  return shares;
}

function placeSlots(slots: readonly Slot[], byOrg: ReadonlyMap<string, Reservation>): Appended[] {
  const events: Appended[] = [];
  const taken = new Map<string, number>();
  for (const slot of slots) {
    const reservation = byOrg.get(slot.event.org);
    if (reservation === undefined) {
      settle(slot, events, { kind: 'org_unknown' });
      continue;
    }
    const offset = taken.get(slot.event.org) ?? 0;
    taken.set(slot.event.org, offset + 1);
    const { epoch, first, day, receivedAtMs } = reservation;
    slot.place = { epoch, position: first + offset, day, receivedAtMs };
    events[slot.index] = { kind: 'stored', place: slot.place };
  }
  return events;
}

function settle(slot: Slot, events: Appended[], appended: Appended): void {
  slot.place = null;
  events[slot.index] = appended;
  for (const follower of slot.followers) events[follower.index] = appended;
}

/** How often a dedup id may be neither free nor found (it expired in between) before the batch gives up. */
const dedupRoundsMax = 3;

async function settleDedup(tx: Transaction, slots: readonly Slot[], events: Appended[]): Promise<void> {
  let open = slots.flatMap((slot) => (slot.event.dedup !== null && slot.place !== null ? [slot] : []));
  open.sort((a, b) => compareDedup(a.event, b.event));
  for (let round = 0; open.length > 0; round++) {
    if (round === dedupRoundsMax) {
      throw new StorageError('unavailable', `${open.length} dedup ids were neither free nor found, ${round} times`);
    }
    open = await claimDedupIds(tx, open, events);
  }
}

function compareDedup(a: NewEvent, b: NewEvent): number {
  const byOrg = compareOrgs(a.org, b.org);
  if (byOrg !== 0) return byOrg;
  const [left, right] = [a.dedup?.id ?? '', b.dedup?.id ?? ''];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Inserts the dedup ids of `slots`, and settles each against what is stored under it now. Returns those still open. */
async function claimDedupIds(tx: Transaction, slots: readonly Slot[], events: Appended[]): Promise<Slot[]> {
  const entries = slots.map(dedupEntry);
  const claimed = await insertDedup(tx, entries);
  const lost = entries.filter((entry) => !claimed.has(dedupKey(entry.org, entry.dedupId)));
  const winners = lost.length > 0 ? await findDedup(tx, lost) : new Map<string, DedupEntry>();
  const open: Slot[] = [];
  for (const [i, slot] of slots.entries()) {
    const entry = entries[i] as DedupEntry;
    const key = dedupKey(entry.org, entry.dedupId);
    if (claimed.has(key)) {
      settleFollowers(slot, entry, events);
      continue;
    }
    const winner = winners.get(key);
    if (winner === undefined) {
      open.push(slot);
      continue;
    }
    slot.place = null;
    events[slot.index] = repeatOf(winner, slot.event);
    settleFollowers(slot, winner, events);
  }
  return open;
}

function settleFollowers(slot: Slot, winner: DedupEntry, events: Appended[]): void {
  for (const { event, index } of slot.followers) events[index] = repeatOf(winner, event);
}

function repeatOf(winner: DedupEntry, event: NewEvent): Appended {
  if (event.dedup === null || !event.dedup.bodyHash.equals(winner.bodyHash)) return { kind: 'dedup_mismatch' };
  const { epoch, position, day, receivedAtMs } = winner;
  return { kind: 'duplicate', place: { epoch, position, day, receivedAtMs } };
}

function dedupEntry(slot: Slot): DedupEntry {
  const { event, place } = slot;
  if (event.dedup === null || place === null) throw new Error('a slot without a dedup id or a place was to be claimed');
  return { org: event.org, dedupId: event.dedup.id, ...place, bodyHash: event.dedup.bodyHash };
}

/** A COPY under way. */
interface Copy {
  readonly sent: number;
  /** The count in the server's tag. */
  readonly stored: Promise<number>;
}

/** Writes the events that are still in their place, one COPY a day, without waiting, so that COMMIT leaves in the same write. */
function copyEvents(tx: Transaction, slots: readonly Slot[], events: readonly Appended[]): Copy[] {
  const byDay = new Map<number, Slot[]>();
  for (const slot of slots) {
    if (slot.place === null || events[slot.index]?.kind !== 'stored') continue;
    const sameDay = byDay.get(slot.place.day);
    if (sameDay === undefined) byDay.set(slot.place.day, [slot]);
    else sameDay.push(slot);
  }
  return [...byDay].map(([day, daySlots]) => ({
    sent: daySlots.length,
    stored: tx.copyIn(eventCopyTarget(day), encodeCopyRows(eventCopyColumns, daySlots.map(copyRow))),
  }));
}

/** A COPY may succeed and store less than it was sent: a trigger that swallows rows. Nobody can say which are missing. */
async function verifyCounts(copies: readonly Copy[], kind: 'unavailable' | 'outcome_unknown'): Promise<void> {
  for (const { sent, stored } of copies) {
    const count = await stored;
    if (count !== sent) throw new StorageError(kind, `COPY stored ${count} of ${sent} events`);
  }
}

function copyRow({ event, place }: Slot) {
  if (place === null) throw new Error('a slot without a place was to be copied');
  return [
    event.org,
    place.epoch,
    place.position,
    place.day,
    event.type,
    event.subject,
    event.occurredAtMs,
    place.receivedAtMs,
    event.attributes ?? null,
    event.payload,
  ] as const;
}

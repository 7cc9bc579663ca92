import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import type { Appended, BatchOutcome } from '../event-log/append.js';
import type { NewEvent } from '../event-log/new-event.js';
import type { Service } from '../lifecycle.js';
import { DrainTime } from './drain-time.js';
import { FairQueue } from './fair-queue.js';
import { QueueRoom } from './queue-room.js';
import { overloaded, shuttingDown } from './refusals.js';

/**
 * Group commit. While one batch is being written, the next one gathers; when the write returns, everything gathered goes out at once.
 * There is no timer: at low load a batch is one event and waits for nothing, at high load it grows by itself up to its bounds.
 */
export interface GroupCommitOptions {
  readonly clock: Clock;
  /** Stores a batch, with everything that can be done about its failure already done (`store-batch.ts`). */
  readonly store: (batch: readonly NewEvent[]) => Promise<readonly StoredOrRefused[]>;
  /** Asked for every batch. */
  readonly batchEventsMax: () => number;
  readonly batchBytesMax: number;
  /** Why no event can be taken now, or null. What waits already is stored. */
  readonly refusal?: () => Problem | null;
  /** Events waiting for their batch, over all orgs. Beyond it a request is refused at once. */
  readonly queueBytesMax: number;
  /** That room, where other queues share it. */
  readonly room?: QueueRoom;
  /** A batch that takes this long waits for more than its turn: for a slow disk, a standby, or a head that somebody holds. Default 100. */
  readonly heldUpMs?: number;
  /** A batch takes so long: what waits behind it may be better off elsewhere. */
  readonly onHeldUp?: () => void;
  /** A batch is over, and the next has not been chosen. */
  readonly onBatchEnd?: () => void;
  /** How long an event may wait for its batch to begin. One that would wait longer, as it seems, is refused at once. */
  readonly queueAgeMsMax: number;
}

export type StoredOrRefused =
  { readonly appended: Appended; readonly durability: BatchOutcome['durability'] } | { readonly refused: Problem };

interface Entry {
  readonly org: string;
  readonly bytes: number;
  readonly cost: number;
  readonly enqueuedAtMs: number;
  readonly event: NewEvent;
  /** The event's place among those of its request. */
  readonly index: number;
  readonly settle: (result: StoredOrRefused, index: number) => void;
}

export const heldUpMsByDefault = 100;
/** What an event costs in memory besides its body, roughly: the entry, its promise, its request. */
const entryBytes = 2_048;
/** The same of one of many in a request: the entry, the event, its outcome. */
const sharedEntryBytes = 1_024;
/**
 * What an event costs of its org's turn besides its payload's bytes: a request of its own takes the event loop much longer than the storage. A turn
 * is about 15 small requests or 200 small events of batches, a few milliseconds: fewer requests leave others hardly faster, twice as many twice as slow.
 */
const requestCost = 16_384;
const sharedCost = 1_024;
/** For so long after events of several orgs have come, none of them gets more than its turns of a batch, lest the others wait for it. */
const sharedMs = 2_000;
/** A commit that takes longer than this has room for more turns: what they cost the event loop is little beside it. */
const turnMs = 5;

const none: ReadonlySet<string> = new Set();

export class GroupCommit implements Service {
  readonly name = 'group commit';
  readonly #options: GroupCommitOptions;
  readonly #room: QueueRoom;
  readonly #queue: FairQueue<Entry>;
  readonly #drain: DrainTime;
  #writing: Promise<void> | null = null;
  /** The orgs of the batch that is being written. */
  #underWay = none;
  #stopped = false;
  #cancelAgeCheck: (() => void) | null = null;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#room = options.room ?? new QueueRoom(options.queueBytesMax);
    this.#queue = new FairQueue(this.#room);
    this.#drain = new DrainTime(options.clock, options.queueAgeMsMax);
  }

  get waitingEvents(): number {
    return this.#queue.size;
  }

  get waitingBytes(): number {
    return this.#queue.bytes;
  }

  /** Whether its batch takes too long for others to wait for it. */
  get isHeldUp(): boolean {
    return this.#drain.elapsedMs >= this.#heldUpMs;
  }

  /** Whether an event of this org is being written or waits. While any does, `#writing` is set, by whoever gave it to the queue. */
  holds(org: string): boolean {
    return this.#writing !== null && (this.#underWay.has(org) || this.#queue.has(org));
  }

  get #heldUpMs(): number {
    return this.#options.heldUpMs ?? heldUpMsByDefault;
  }

  /** Leaves to another, which has the same room, what waits of the orgs that `moves` names and that have nothing in the batch under way. */
  leaveTo(other: GroupCommit, moves: (org: string) => boolean = () => true): void {
    this.#queue.moveTo(other.#queue, (org) => !this.#underWay.has(org) && moves(org));
    if (other.#queue.size > 0) other.#writing ??= other.#writeAll();
  }

  start(): Promise<void> {
    this.#stopped = false;
    this.#checkAges();
    return Promise.resolve();
  }

  /** Refuses what comes from now on, and resolves when everything that waited is settled. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#writing;
    this.#cancelAgeCheck?.();
    this.#cancelAgeCheck = null;
  }

  /**
   * Resolves when the event's batch is settled: stored as durably as the receipt says, or refused. Never rejects. Refuses at once
   * with `overloaded` if the queue is full.
   */
  add(event: NewEvent): Promise<StoredOrRefused> {
    const refused = this.#refusal();
    if (refused !== null) return Promise.resolve({ refused });
    return new Promise((settle) => {
      const bytes = heldBytes(event.payload) + entryBytes;
      const enqueuedAtMs = this.#options.clock.monotonic();
      const cost = event.payload.length + requestCost;
      const entry = { org: event.org, bytes, cost, enqueuedAtMs, event, index: 0, settle };
      if (this.#waitsTooLong(event.org) || !this.#queue.add(entry)) settle({ refused: this.#full(event.org) });
      else this.#writing ??= this.#writeAll();
    });
  }

  /**
   * The same for the events of one request, of one org, whose payloads are parts of a body of `bodyBytes`: one outcome each, in their order, when the
   * last is settled. They wait in line like those of other requests and may be stored in several batches. From the first one that the queue has
   * no room for, all are refused, so that none overtakes another. Rejects with the refusal if nothing of it can be taken.
   */
  addAll(events: readonly NewEvent[], bodyBytes: number): Promise<readonly StoredOrRefused[]> {
    const refused = this.#refusal();
    if (refused !== null) return Promise.reject(refused);
    return new Promise((resolve, reject) => {
      const payloadBytes = events.reduce((sum, { payload }) => sum + payload.length, 0);
      const shareBytes = sharedEntryBytes + Math.ceil(Math.max(0, bodyBytes - payloadBytes) / events.length);
      const enqueuedAtMs = this.#options.clock.monotonic();
      const results: StoredOrRefused[] = [];
      let open = events.length;
      const settle = (result: StoredOrRefused, index: number): void => {
        results[index] = result;
        if (--open === 0) resolve(results);
      };
      for (const [index, event] of events.entries()) {
        const bytes = event.payload.length + shareBytes;
        const cost = event.payload.length + sharedCost;
        const entry = { org: event.org, bytes, cost, enqueuedAtMs, event, index, settle };
        if (!this.#waitsTooLong(event.org) && this.#queue.add(entry)) continue;
        const refusal = this.#full(event.org);
        if (index === 0) return reject(refusal);
        for (let rest = index; rest < events.length; rest++) settle({ refused: refusal }, rest);
        break;
      }
      if (events.length === 0) resolve(results);
      else this.#writing ??= this.#writeAll();
    });
  }

  #refusal(): Problem | null {
    return this.#stopped ? shuttingDown() : (this.#options.refusal?.() ?? null);
  }

  /** Whether an event of this org that comes now would be too old before its turn. Never with less than a batch before it. */
  #waitsTooLong(org: string): boolean {
    const { items, bytes } = this.#queue.ahead(org);
    const batches = Math.max(this.#batches(items, bytes), this.#turns(org));
    return this.#drain.msFor(Math.floor(batches)) > this.#options.queueAgeMsMax;
  }

  #batches(items: number, bytes: number): number {
    return Math.max(items / this.#options.batchEventsMax(), bytes / this.#options.batchBytesMax);
  }

  /** Batches that it takes until what waits of this org has left in its turns. */
  #turns(org: string): number {
    return this.#queue.turnsOf(org) / this.#turnsMax();
  }

  /** How many turns an org has in a batch. */
  #turnsMax(): number {
    if (!this.#room.isSharedSince(this.#options.clock.monotonic() - sharedMs)) return Infinity;
    return Math.max(1, Math.floor(this.#drain.fastestMs / turnMs));
  }

  /** Told to come again when all that waits now is gone, and the batch that is being written. */
  #full(org: string, what = 'too many events are waiting to be stored'): Problem {
    const batches = Math.max(this.#batches(this.#queue.size, this.#queue.bytes), this.#turns(org));
    return overloaded(what, this.#drain.secondsFor(1 + batches));
  }

  async #writeAll(): Promise<void> {
    // Everything that arrives in this turn of the event loop joins the first batch.
    await new Promise<void>((resume) => {
      setImmediate(resume);
    });
    let settle: (() => void) | null = null;
    while (this.#queue.size > 0) {
      const { batchEventsMax, batchBytesMax } = this.#options;
      const batch = this.#queue.take(batchEventsMax(), batchBytesMax, this.#turnsMax());
      const storing = this.#store(batch);
      // Answers to the batch before are rendered while the storage is already at work on this one.
      if (settle !== null) setImmediate(settle);
      const results = await storing;
      settle = () => {
        for (const [i, entry] of batch.entries()) {
          entry.settle(results[i] ?? { refused: new Problem('internal', 'The event got no outcome.') }, entry.index);
        }
      };
    }
    this.#writing = null;
    settle?.();
  }

  async #store(batch: readonly Entry[]): Promise<readonly StoredOrRefused[]> {
    const { clock, onHeldUp, onBatchEnd } = this.#options;
    this.#underWay = new Set(batch.map((entry) => entry.org));
    const cancel = onHeldUp && clock.after(this.#heldUpMs, onHeldUp);
    try {
      const results = await this.#drain.measure(this.#options.store(batch.map((entry) => entry.event)));
      // One event's receipt must never go to another.
      if (results.length !== batch.length) throw new Error(`${results.length} outcomes for ${batch.length} events`);
      return results;
    } catch (error) {
      const refused = new Problem('internal', 'The event could not be stored.', { cause: error });
      return batch.map(() => ({ refused }));
    } finally {
      cancel?.();
      this.#underWay = none;
      onBatchEnd?.();
    }
  }

  #checkAges(): void {
    const { clock, queueAgeMsMax } = this.#options;
    this.#cancelAgeCheck = clock.after(queueAgeMsMax / 4, () => {
      for (const entry of this.#queue.takeOlder(clock.monotonic() - queueAgeMsMax)) {
        entry.settle(
          { refused: this.#full(entry.org, 'the event waited too long for its turn to be stored') },
          entry.index,
        );
      }
      this.#checkAges();
    });
  }
}

/** What a payload keeps in memory: it is a part of its request's body, which may be much larger. Small bodies share a pool. */
function heldBytes(payload: Buffer): number {
  const { byteLength } = payload.buffer;
  return byteLength > Buffer.poolSize ? byteLength : payload.length;
}

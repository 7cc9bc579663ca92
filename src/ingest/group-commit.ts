import type { Clock } from '../clock.js';
import { StorageError } from '../db/database.js';
import { Problem } from '../errors.js';
import type { Appended, BatchOutcome } from '../event-log/append.js';
import type { NewEvent } from '../event-log/new-event.js';
import type { Service } from '../lifecycle.js';
import { FairQueue } from './fair-queue.js';

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
  /** How long an event may wait for its batch to begin. */
  readonly queueAgeMsMax: number;
}

export type StoredOrRefused =
  { readonly appended: Appended; readonly durability: BatchOutcome['durability'] } | { readonly refused: Problem };

interface Entry {
  readonly org: string;
  readonly bytes: number;
  readonly enqueuedAtMs: number;
  readonly event: NewEvent;
  readonly settle: (result: StoredOrRefused) => void;
}

/** What an event costs in memory besides its body, roughly: the entry, its promise, its request. */
const entryBytes = 2_048;

export class GroupCommit implements Service {
  readonly name = 'group commit';
  readonly #options: GroupCommitOptions;
  readonly #queue: FairQueue<Entry>;
  #writing: Promise<void> | null = null;
  #stopped = false;
  #cancelAgeCheck: (() => void) | null = null;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#queue = new FairQueue(options.queueBytesMax);
  }

  get waitingEvents(): number {
    return this.#queue.size;
  }

  get waitingBytes(): number {
    return this.#queue.bytes;
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
    if (this.#stopped) return Promise.resolve({ refused: shuttingDown() });
    const refused = this.#options.refusal?.() ?? null;
    if (refused !== null) return Promise.resolve({ refused });
    return new Promise((settle) => {
      const entry = {
        org: event.org,
        bytes: heldBytes(event.payload) + entryBytes,
        enqueuedAtMs: this.#options.clock.monotonic(),
        event,
        settle,
      };
      if (!this.#queue.add(entry)) settle({ refused: overloaded('too many events are waiting to be stored') });
      else this.#writing ??= this.#writeAll();
    });
  }

  async #writeAll(): Promise<void> {
    // Everything that arrives in this turn of the event loop joins the first batch.
    await new Promise<void>((resume) => {
      setImmediate(resume);
    });
    let settle: (() => void) | null = null;
    while (this.#queue.size > 0) {
      const batch = this.#queue.take(this.#options.batchEventsMax(), this.#options.batchBytesMax);
      const storing = this.#store(batch);
      // Answers to the batch before are rendered while the storage is already at work on this one.
      if (settle !== null) setImmediate(settle);
      const results = await storing;
      settle = () => {
        for (const [i, entry] of batch.entries()) {
          entry.settle(results[i] ?? { refused: new Problem('internal', 'The event got no outcome.') });
        }
      };
    }
    this.#writing = null;
    settle?.();
  }

  async #store(batch: readonly Entry[]): Promise<readonly StoredOrRefused[]> {
    try {
      const results = await this.#options.store(batch.map((entry) => entry.event));
      // One event's receipt must never go to another.
      if (results.length !== batch.length) throw new Error(`${results.length} outcomes for ${batch.length} events`);
      return results;
    } catch (error) {
      const refused = new Problem('internal', 'The event could not be stored.', { cause: error });
      return batch.map(() => ({ refused }));
    }
  }

  #checkAges(): void {
    const { clock, queueAgeMsMax } = this.#options;
    this.#cancelAgeCheck = clock.after(queueAgeMsMax / 4, () => {
      for (const entry of this.#queue.takeOlder(clock.monotonic() - queueAgeMsMax)) {
        entry.settle({ refused: overloaded('the event waited too long for its turn to be stored') });
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

function overloaded(what: string): Problem {
  return new Problem('overloaded', `Not stored: ${what}. Send it again after the time in Retry-After.`, {
    retryAfterSeconds: 1,
  });
}

function shuttingDown(): Problem {
  return new Problem('storage_unavailable', 'This node is shutting down. Send the event again.', {
    retryAfterSeconds: 1,
    cause: new StorageError('unavailable', 'shutting down'),
  });
}

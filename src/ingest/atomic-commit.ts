import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import type { NewEvent } from '../event-log/new-event.js';
import type { Service } from '../lifecycle.js';
import { DrainTime } from './drain-time.js';
import { FairQueue, turnCost } from './fair-queue.js';
import type { GroupCommitOptions, StoredOrRefused } from './group-commit.js';
import { QueueRoom } from './queue-room.js';
import { overloaded, shuttingDown } from './refusals.js';

export interface AtomicCommitOptions extends Pick<GroupCommitOptions, 'refusal' | 'queueBytesMax' | 'queueAgeMsMax'> {
  readonly clock: Clock;
  /** Stores all or nothing of a batch (`store-atomic.ts`). May reject with a `Problem` that refuses it. */
  readonly store: (batch: readonly NewEvent[]) => Promise<readonly StoredOrRefused[]>;
}

/** A request that waits for its transaction. */
interface Entry {
  readonly org: string;
  readonly bytes: number;
  readonly cost: number;
  readonly enqueuedAtMs: number;
  readonly events: readonly NewEvent[];
  readonly resolve: (results: readonly StoredOrRefused[]) => void;
  readonly reject: (refused: Problem) => void;
}

/** What an org may have written in its turn. A larger batch has several. */
const turnBytes = 64 * 1024;
/** What an event costs in memory besides its part of the body, roughly. */
const eventBytes = 1_024;

/**
 * Batches that are stored as a whole or not at all: each in a transaction of its own, one at a time beside the group commit, in turns of equal
 * bytes between orgs. One at a time, because a transaction that waits for the head of its log holds a session that everybody else needs.
 */
export class AtomicCommit implements Service {
  readonly name = 'atomic commit';
  readonly #options: AtomicCommitOptions;
  readonly #queue: FairQueue<Entry>;
  readonly #drain: DrainTime;
  #waitingEvents = 0;
  #writing: Promise<void> | null = null;
  #stopped = false;
  #cancelAgeCheck: (() => void) | null = null;

  constructor(options: AtomicCommitOptions) {
    this.#options = options;
    this.#queue = new FairQueue(new QueueRoom(options.queueBytesMax));
    this.#drain = new DrainTime(options.clock, options.queueAgeMsMax);
  }

  get waitingEvents(): number {
    return this.#waitingEvents;
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
   * Resolves with one outcome for each event, in their order: all stored or duplicates, or all refused. Rejects with a `Problem` that holds for the whole:
   * `overloaded` at once if there is no room for it, or later if it waited too long; or the storage's failure. `events` are of one org, and their
   * payloads parts of a body of `bodyBytes`.
   */
  add(events: readonly NewEvent[], bodyBytes: number): Promise<readonly StoredOrRefused[]> {
    const refused = this.#stopped ? shuttingDown() : (this.#options.refusal?.() ?? null);
    if (refused !== null) return Promise.reject(refused);
    return new Promise((resolve, reject) => {
      const bytes = bodyBytes + events.length * eventBytes;
      const entry = {
        org: events[0]?.org ?? '',
        bytes,
        cost: turnCost * (bytes / turnBytes),
        enqueuedAtMs: this.#options.clock.monotonic(),
        events,
        resolve,
        reject,
      };
      const waitsTooLong = this.#drain.msFor(this.#queue.ahead(entry.org).items) > this.#options.queueAgeMsMax;
      if (waitsTooLong || !this.#queue.add(entry)) {
        return reject(this.#overloaded('too many atomic batches are waiting to be stored'));
      }
      this.#waitingEvents += events.length;
      this.#writing ??= this.#writeAll();
    });
  }

  #overloaded(what: string): Problem {
    return overloaded(what, this.#drain.secondsFor(1 + this.#queue.size));
  }

  async #writeAll(): Promise<void> {
    for (let [entry] = this.#queue.take(1, Infinity); entry !== undefined; [entry] = this.#queue.take(1, Infinity)) {
      const { events, resolve, reject } = entry;
      this.#waitingEvents -= events.length;
      try {
        const results = await this.#drain.measure(this.#options.store(events));
        // One event's receipt must never go to another.
        if (results.length !== events.length) throw new Error(`${results.length} outcomes for ${events.length} events`);
        resolve(results);
      } catch (error) {
        const internal = (): Problem => new Problem('internal', 'The batch could not be stored.', { cause: error });
        reject(error instanceof Problem ? error : internal());
      }
    }
    this.#writing = null;
  }

  #checkAges(): void {
    const { clock, queueAgeMsMax } = this.#options;
    this.#cancelAgeCheck = clock.after(queueAgeMsMax / 4, () => {
      for (const entry of this.#queue.takeOlder(clock.monotonic() - queueAgeMsMax)) {
        this.#waitingEvents -= entry.events.length;
        entry.reject(this.#overloaded('the batch waited too long for its turn to be stored'));
      }
      this.#checkAges();
    });
  }
}

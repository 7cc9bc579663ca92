import type { Clock } from '../clock.js';
import { StorageError } from './database.js';
import type { QueryResult, Scope, Statement, Transaction } from './database.js';
import type { WireSession } from './wire-session.js';

export interface SessionPoolOptions {
  readonly clock: Clock;
  readonly sessionsMax: number;
  readonly waitersMax: number;
  readonly waitMsMax: number;
  /** Opens one more session; rejects with a `StorageError`. */
  readonly open: () => Promise<WireSession>;
}

export type Priority = 'read' | 'write';

interface Waiter {
  readonly resolve: (session: WireSession) => void;
  readonly reject: (error: unknown) => void;
  readonly cancelTimeout: () => void;
}

/** After this many reads in a row a waiting write gets its turn: reads go first, but cannot starve writes. */
const readsInARowMax = 16;

/**
 * A bounded number of sessions, opened when needed, and a bounded wait for one of them. Reads are served before writes. A session that has
 * ended counts until nothing of it is left, so that the embedded engine never has two on one folder.
 */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #idle: WireSession[] = [];
  readonly #busy = new Set<WireSession>();
  readonly #waiters: Record<Priority, Set<Waiter>> = { read: new Set(), write: new Set() };
  /** Every session that is open or not yet quite gone. */
  readonly #alive = new Set<WireSession>();
  #opening = 0;
  #readsInARow = 0;
  #closing: Promise<void> | undefined;
  #onQuiet: () => void = () => {};

  constructor(options: SessionPoolOptions) {
    this.#options = options;
  }

  get inUse(): number {
    return this.#busy.size;
  }

  get waiting(): number {
    return this.#waiters.read.size + this.#waiters.write.size;
  }

  /** Runs `work` with a session of its own. Rejects with kind `unavailable` when none is to be had in time. */
  async use<T>(priority: Priority, work: (session: WireSession) => Promise<T>): Promise<T> {
    const session = await this.#acquire(priority, this.#options.waitMsMax);
    try {
      return await work(session);
    } finally {
      this.#release(session);
    }
  }

  /** Whether a read has asked for a session since the last write got one. */
  get readsWait(): boolean {
    return this.#readsInARow > 0 || this.#waiters.read.size > 0;
  }

  /** As `Database.transaction`. */
  transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.use(scope.priority ?? 'write', (session) => session.transaction(scope, work));
  }

  /** As `Database.query`. */
  async query<Row>(
    scope: Scope,
    statement: Statement,
    values: readonly unknown[] | undefined,
  ): Promise<QueryResult<Row>> {
    if (scope.priority !== 'read') return this.transaction(scope, (tx) => tx.query<Row>(statement, values));
    // Without waiting, COMMIT leaves with it. For a write that would make an unknown outcome of every session that breaks.
    const sent = await this.transaction(scope, async (tx) => ({ answer: tx.query<Row>(statement, values) }));
    return sent.answer;
  }

  /** Has a session open, without using it. Waits as long as opening takes: a recovery may be long. */
  async prepare(): Promise<void> {
    this.#release(await this.#acquire('read', undefined));
  }

  /** Refuses new work, waits for the work under way (at most `graceMs`), then ends every session. Idempotent. */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    for (const lane of Object.values(this.#waiters)) {
      for (const waiter of lane)
        settle(lane, waiter).reject(new StorageError('unavailable', 'the database is closing'));
    }
    const quiet = new Promise<void>((resolve) => {
      this.#onQuiet = resolve;
    });
    const cancel = this.#options.clock.after(graceMs, () => {
      for (const session of this.#busy) session.destroy(new Error('the database is closing'));
    });
    if (this.#busy.size + this.#opening > 0) await quiet;
    cancel();
    await Promise.all(this.#idle.splice(0).map((session) => session.end()));
    await Promise.all([...this.#alive].map((session) => session.ended));
  }

  #acquire(priority: Priority, waitMsMax: number | undefined): Promise<WireSession> {
    const { clock, waitersMax } = this.#options;
    if (this.#closing) return Promise.reject(new StorageError('unavailable', 'the database is closed'));
    if (this.waiting >= waitersMax) {
      return Promise.reject(new StorageError('unavailable', `more than ${waitersMax} wait for a database session`));
    }
    return new Promise((resolve, reject) => {
      const lane = this.#waiters[priority];
      const expire = (): void => {
        lane.delete(waiter);
        reject(new StorageError('unavailable', `no database session was free within ${waitMsMax} ms`));
      };
      const cancelTimeout = waitMsMax === undefined ? () => {} : clock.after(waitMsMax, expire);
      const waiter: Waiter = { resolve, reject, cancelTimeout };
      lane.add(waiter);
      this.#serve();
    });
  }

  #release(session: WireSession): void {
    this.#busy.delete(session);
    if (session.usable) this.#idle.push(session);
    this.#serve();
  }

  /** Gives idle sessions to waiters, and opens more while there are too few. */
  #serve(): void {
    while (this.waiting > 0) {
      const session = this.#idle.pop();
      if (session) {
        if (!session.usable) continue;
        this.#busy.add(session);
        this.#nextWaiter().resolve(session);
      } else if (this.#alive.size + this.#opening < this.#options.sessionsMax && this.#opening < this.waiting) {
        this.#opening++;
        void this.#open();
      } else {
        break;
      }
    }
    if (this.#busy.size + this.#opening === 0) this.#onQuiet();
  }

  async #open(): Promise<void> {
    try {
      const session = await this.#options.open();
      this.#alive.add(session);
      this.#idle.push(session);
      void this.#forgetWhenGone(session);
    } catch (error) {
      if (this.waiting > 0) this.#nextWaiter().reject(error);
    } finally {
      this.#opening--;
      this.#serve();
    }
  }

  async #forgetWhenGone(session: WireSession): Promise<void> {
    await session.ended;
    this.#alive.delete(session);
    this.#serve();
  }

  #nextWaiter(): Waiter {
    const { read, write } = this.#waiters;
    const readsFirst = read.size > 0 && (write.size === 0 || this.#readsInARow < readsInARowMax);
    this.#readsInARow = readsFirst ? this.#readsInARow + 1 : 0;
    const lane = readsFirst ? read : write;
    const [first] = lane;
    if (!first) throw new Error('nobody waits');
    return settle(lane, first);
  }
}

function settle(lane: Set<Waiter>, waiter: Waiter): Waiter {
  lane.delete(waiter);
  waiter.cancelTimeout();
  return waiter;
}

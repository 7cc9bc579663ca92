import type { Clock } from '../clock.js';
import { StorageError } from './database.js';
import type { QueryResult, Scope, Statement, Transaction } from './database.js';
import { SessionQueue } from './session-queue.js';
import { doubtsOthers } from './wire-errors.js';
import type { WireSession } from './wire-session.js';

export interface SessionPoolOptions {
  readonly clock: Clock;
  readonly sessionsMax: number;
  readonly waitersMax: number;
  readonly waitMsMax: number;
  /** Opens one more session; rejects with a `StorageError`. */
  readonly open: () => Promise<WireSession>;
}

export interface PoolStats {
  readonly sessionsInUse: number;
  readonly waiting: number;
  /** How long a session is at work for one caller, of late. */
  readonly serviceMs: number;
  /** Work of tenants that was refused since it would have waited too long. */
  readonly refused: number;
}

export type Priority = 'read' | 'write';

/** Whose work it is: an org's, or null for the program's own. */
type Org = string | null;

interface Waiter {
  readonly resolve: (session: WireSession) => void;
  readonly reject: (error: unknown) => void;
  readonly cancelTimeout: () => void;
}

/** After this many reads in a row a waiting write gets its turn: reads go first, but cannot starve acknowledgements and ingest. */
const readsInARowMax = 4;
/**
 * A tenant's work that would wait longer than this for a session, as it seems, is refused at once: what it can wait for adapts to how long work takes. Reads
 * are refused first.
 */
const expectedWaitMsMax: Readonly<Record<Priority, number>> = { read: 3_500, write: 4_500 };
/** How much the newest work counts against all before it: about the last twenty make up how long work takes. */
const newestWeight = 0.05;
const doubtful = new Error('another session with the server was silent, or could not write');

/**
 * A bounded number of sessions, opened when needed, and a bounded wait for one of them. Reads are served before writes, and orgs in turns. A session that has
 * ended counts until nothing of it is left, so that the embedded engine never has two on one folder.
 */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #idle: WireSession[] = [];
  readonly #busy = new Set<WireSession>();
  readonly #waiters: Readonly<Record<Priority, SessionQueue<Waiter>>> = {
    read: new SessionQueue(),
    write: new SessionQueue(),
  };
  /** Every session that is open or not yet quite gone. */
  readonly #alive = new Set<WireSession>();
  #opening = 0;
  #readsInARow = 0;
  #serviceMs = 0;
  #refused = 0;
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

  stats(): PoolStats {
    return {
      sessionsInUse: this.inUse,
      waiting: this.waiting,
      serviceMs: this.#serviceMs,
      refused: this.#refused,
    };
  }

  /**
   * Runs `work` with a session of its own. Rejects with kind `unavailable` when none is to be had in time, and with `overloaded`, at once, where it
   * is an org's and too much waits.
   */
  async use<T>(priority: Priority, work: (session: WireSession) => Promise<T>, org: Org = null): Promise<T> {
    const session = await this.#acquire(priority, org, this.#options.waitMsMax);
    const begunAtMs = this.#options.clock.monotonic();
    try {
      return await work(session);
    } finally {
      this.#serviceMs += newestWeight * (this.#options.clock.monotonic() - begunAtMs - this.#serviceMs);
      this.#release(session);
    }
  }

  /** Whether a read has asked for a session since the last write got one. */
  get readsWait(): boolean {
    return this.#readsInARow > 0 || this.#waiters.read.size > 0;
  }

  /** As `Database.transaction`. */
  transaction<T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> {
    return this.use(scope.priority ?? 'write', (session) => session.transaction(scope, work), orgOf(scope));
  }

  /** As `Database.query`. */
  query<Row>(scope: Scope, statement: Statement, values: readonly unknown[] | undefined): Promise<QueryResult<Row>> {
    if (scope.priority !== 'read') return this.transaction(scope, (tx) => tx.query<Row>(statement, values));
    return this.use('read', (session) => session.read<Row>(scope, statement, values), orgOf(scope));
  }

  /** Has a session open, without using it. Waits as long as opening takes: a recovery may be long. */
  async prepare(): Promise<void> {
    this.#release(await this.#acquire('read', null, undefined));
  }

  /** Refuses new work, waits for the work under way (at most `graceMs`), then ends every session. Idempotent. */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    for (const waiter of Object.values(this.#waiters).flatMap((lane) => lane.takeAll())) {
      waiter.cancelTimeout();
      waiter.reject(new StorageError('unavailable', 'the database is closing'));
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

  #acquire(priority: Priority, org: Org, waitMsMax: number | undefined): Promise<WireSession> {
    const { clock, waitersMax } = this.#options;
    if (this.#closing) return Promise.reject(new StorageError('unavailable', 'the database is closed'));
    const lane = this.#waiters[priority];
    const name = org ?? '';
    if (org !== null && (this.#expectedWaitMs(name) > expectedWaitMsMax[priority] || !lane.hasRoom(name, waitersMax))) {
      return Promise.reject(this.#overloaded());
    }
    if (this.waiting >= waitersMax) {
      return Promise.reject(new StorageError('unavailable', `more than ${waitersMax} wait for a database session`));
    }
    return new Promise((resolve, reject) => {
      const expire = (): void => {
        lane.delete(name, waiter);
        reject(new StorageError('unavailable', `no database session was free within ${waitMsMax} ms`));
      };
      const cancelTimeout = waitMsMax === undefined ? () => {} : clock.after(waitMsMax, expire);
      const waiter: Waiter = { resolve, reject, cancelTimeout };
      lane.add(name, waiter);
      this.#serve();
    });
  }

  /** Of an org whose work comes now. Nothing, while less waits before it than there are sessions. */
  #expectedWaitMs(org: string): number {
    const ahead = this.#waiters.read.ahead(org) + this.#waiters.write.ahead(org);
    return this.#msFor(ahead);
  }

  #msFor(work: number): number {
    return Math.floor(work / this.#options.sessionsMax) * this.#serviceMs;
  }

  #overloaded(): StorageError {
    this.#refused++;
    const drainedMs = Math.min(this.#options.waitMsMax, this.#msFor(this.waiting));
    const retryAfterSeconds = Math.max(1, Math.ceil(drainedMs / 1000));
    return new StorageError('overloaded', 'too much waits for a database session', { retryAfterSeconds });
  }

  #release(session: WireSession): void {
    this.#busy.delete(session);
    if (session.usable) this.#idle.push(session);
    // Each would cost a request its time to be found out. Opening new ones is cheap, and leads to another server if there is one.
    else if (doubtsOthers(session.failure)) for (const idle of this.#idle.splice(0)) idle.destroy(doubtful);
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
    const first = lane.take();
    if (!first) throw new Error('nobody waits');
    first.cancelTimeout();
    return first;
  }
}

/** On whose behalf it is, so that orgs have turns. */
function orgOf({ role, org }: Scope): Org {
  return role === 'app' ? (org ?? null) : null;
}

import type { Database, Transaction } from '../db/database.js';
import type { SnapshotRow } from '../db/sql/verify.js';
import { readHead } from '../db/sql/subscriptions.js';
import { readErasedCounts, readSnapshot, walkEvents } from '../db/sql/verify.js';
import { wants } from './filter.js';
import { PositionSet } from './position-set.js';

const pageRows = 5_000;
/** Retention that raises the floor meanwhile makes the walk begin anew, and so does an erasure of events that were not done. */
const triesMax = 5;

/** Where the events of an org are, for one of its subscriptions. They add up to `stored`; `expired` and `erased` count what the log no longer holds. */
export interface Account {
  readonly kind: string;
  readonly name: string;
  stored: number;
  pending: number;
  leased: number;
  delivered: number;
  dead: number;
  /** Passed over by a start or a seek. */
  skipped: number;
  /** Of a type that the subscription does not want. */
  filtered: number;
  readonly expired: number;
  readonly erased: number;
}

/** A subscription whose books do not add up: which one, and why. */
export class AccountBroken extends Error {
  override readonly name = 'AccountBroken';
}

/**
 * Looks at every event of an org's log and finds the one place that each subscription has it in, from the stored rows alone: none is in two places, every
 * place holds events of the log only, and what is counted on the rows is what there is. Nothing is held open between pages, and work meanwhile does no
 * harm: the books are those of the begin. Resolves with null for an org that is gone. Rejects with `AccountBroken`; `label` names the org in it.
 */
export async function verifyOrg(
  database: Database,
  org: string,
  label: string,
  nowMs: number,
  onEvents: (events: number) => void = () => {},
): Promise<readonly Account[] | null> {
  const scope = { role: 'app', org, priority: 'read' } as const;
  const single: Pick<Transaction, 'query'> = {
    query: (statement, values) => database.query(scope, statement, values),
  };
  for (let tries = 1; ; tries++) {
    const rows = await readSnapshot(single, org, new Date(nowMs));
    const [first] = rows;
    if (first === undefined) return null;
    const books = rows.filter(({ subscription }) => subscription !== null).map((row) => new Book(label, row));
    await walk(single, org, first, books, onEvents);
    const head = await readHead(single, org);
    // Events that went meanwhile are missing in some place, through no fault of the books.
    const isExpired = head?.firstPosition !== Number(first.first_position);
    if (!isExpired && !(await wasErased(single, org, books))) return books.map((book) => book.close());
    if (tries === triesMax)
      throw new Error(`${label}: retention or an erasure went on ${triesMax} times while its events were counted`);
  }
}

/** Whether books that do not add up lost events to an erasure since they were read. */
async function wasErased(tx: Pick<Transaction, 'query'>, org: string, books: readonly Book[]): Promise<boolean> {
  if (books.every((book) => book.isWhole)) return false;
  const erased = await readErasedCounts(tx, org);
  return books.some((book) => !book.isWhole && erased.get(book.subscription) !== book.erased);
}

async function walk(
  tx: Pick<Transaction, 'query'>,
  org: string,
  { head, head_day: lastDay, first_position: floor, first_day: firstDay }: SnapshotRow,
  books: readonly Book[],
  onEvents: (events: number) => void,
): Promise<void> {
  let above = Number(floor) - 1;
  for (let day = firstDay; day <= lastDay;) {
    const rows = await walkEvents(tx, org, day, above, Number(head), pageRows);
    for (const row of rows) {
      above = Number(row.position);
      for (const book of books) book.enter(above, row.type);
    }
    onEvents(rows.length);
    if (rows.length < pageRows) day++;
  }
}

/** One subscription's account while its org's log is read. */
class Book {
  readonly #account: Account;
  readonly #label: string;
  readonly #out: PositionSet;
  readonly #waiting: PositionSet;
  readonly #dying: PositionSet;
  readonly #dead: PositionSet;
  readonly #ahead: PositionSet;
  readonly #skipped: PositionSet;
  readonly #cursor: number;
  #held = 0;
  #buried = 0;

  constructor(
    label: string,
    private readonly row: SnapshotRow,
  ) {
    const { kind, name, leases, max_attempts: attemptsMax } = row;
    this.#label = `${kind} "${name}" of ${label}`;
    this.#account = {
      kind,
      name,
      stored: 0,
      pending: 0,
      leased: 0,
      delivered: 0,
      dead: 0,
      skipped: 0,
      filtered: 0,
      expired: Number(row.expired),
      erased: Number(row.erased),
    };
    const union = (some: typeof leases): PositionSet =>
      PositionSet.union(some.map(({ positions }) => PositionSet.parse(positions)));
    const back = leases.filter(({ isOut }) => !isOut);
    this.#out = union(leases.filter(({ isOut }) => isOut));
    this.#waiting = union(back.filter(({ attempt }) => attempt < attemptsMax));
    this.#dying = union(back.filter(({ attempt }) => attempt >= attemptsMax));
    this.#dead = PositionSet.parse(row.dead_letters);
    this.#ahead = PositionSet.parse(row.ahead);
    this.#skipped = PositionSet.parse(row.skipped);
    this.#cursor = Number(row.cursor);
    this.#requireSound(leases.map(({ positions }) => PositionSet.parse(positions)));
  }

  /** Finds the place of an event. */
  enter(position: number, type: string): void {
    const account = this.#account;
    account.stored++;
    const isHeld = this.#out.has(position) || this.#waiting.has(position) || this.#dying.has(position);
    if (isHeld) this.#held++;
    if (this.#dead.has(position)) {
      this.#buried++;
      account.dead++;
    } else if (this.#out.has(position)) account.leased++;
    else if (this.#waiting.has(position)) account.pending++;
    else if (this.#dying.has(position)) account.dead++;
    else if (!wants(this.row.filters, position, type)) account.filtered++;
    else if (position > this.#cursor && !this.#ahead.has(position)) account.pending++;
    else if (this.#skipped.has(position)) account.skipped++;
    else account.delivered++;
  }

  get subscription(): number | null {
    return this.row.subscription;
  }

  get erased(): number {
    return this.#account.erased;
  }

  /** Whether every event that it holds was entered. */
  get isWhole(): boolean {
    return this.#held === Number(this.row.held) && this.#buried === Number(this.row.dead);
  }

  /** The account, once every event was entered. */
  close(): Account {
    const { held, dead } = this.row;
    this.#require(
      this.#held === Number(held),
      `its leases hold ${held} positions, and ${this.#held} of these are events`,
    );
    this.#require(
      this.#buried === Number(dead),
      `it has ${dead} dead letters, and ${this.#buried} of these are events of the log`,
    );
    return this.#account;
  }

  #requireSound(leases: readonly PositionSet[]): void {
    const { held, dead, head, first_position: floor } = this.row;
    const all = PositionSet.union(leases);
    const size = leases.reduce((sum, { size: positions }) => sum + positions, 0);
    this.#require(all.size === size, `two leases hold the same of its events`);
    this.#require(size === Number(held), `it counts ${held} events in leases, and they hold ${size}`);
    this.#require(this.#dead.size === Number(dead), `it counts ${dead} dead letters, and has ${this.#dead.size}`);
    this.#require(all.minus(this.#dead).size === all.size, 'a dead letter is in a lease, too');
    this.#require(this.#cursor <= Number(head), `it has come to position ${this.#cursor}, and the log to ${head}`);
    const handedOut = PositionSet.union([PositionSet.range(Number(floor), this.#cursor + 1), this.#ahead]);
    const places = PositionSet.union([all, this.#dead]);
    this.#require(places.minus(handedOut).isEmpty, 'a lease or a dead letter holds what was never handed out');
    const firstAhead = this.#ahead.ranges[0]?.[0] ?? Infinity;
    this.#require(firstAhead > this.#cursor, 'what it holds apart as done lies behind where it has come to');
    this.#require((this.#ahead.last ?? 0) <= Number(head), 'something is done that was never stored');
  }

  #require(isSo: boolean, otherwise: string): void {
    if (!isSo) throw new AccountBroken(`${this.#label} does not add up: ${otherwise}`);
  }
}

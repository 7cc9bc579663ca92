import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { existingPartitions, partitionDay } from '../db/sql/partitions.js';
import {
  deleteDedupBefore,
  deleteEventsBelow,
  dropPartition,
  dueOrgs,
  lowestFloor,
  notePurged,
  unpurgedOrgs,
} from '../db/sql/retention.js';
import type { Service } from '../lifecycle.js';
import { Rest } from '../rest.js';

const everyMs = 600_000;
/** After a start, which has other things to do first. */
const firstMs = 30_000;
const orgsPerPage = 1_000;
/** Rows that one transaction deletes: milliseconds, between which others get their turn. */
const rowsMax = 2_000;
/** After a transaction of that many rows, so that they take half of the storage's time at most. */
const restMs = 20;
const dropTries = 10;
const dropPauseMs = 1_000;

export interface RetentionCounts {
  readonly droppedDays: number;
  readonly deletedEvents: number;
  readonly deletedDedup: number;
}

/**
 * Takes out of the log what is older than each org keeps: first its floor is raised, and from then on nothing below it is read; then whole days that
 * no org keeps are dropped, and what else lies below a floor is deleted. Dedup ids go a day after their window. Each step is short and can be
 * repeated, so that a node which ends in the middle, or several that do the same, lose nothing.
 */
export class Retention implements Service {
  readonly name = 'retention';
  #cancelTimer: (() => void) | null = null;
  #working: Promise<void> | null = null;
  #stopped = false;
  readonly #rest: Rest;

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    /** Raises the floor of one org to a day by one bounded step; false: there is more to do. */
    private readonly expire: (org: string, day: number) => Promise<boolean>,
    private readonly onDone: (counts: RetentionCounts) => void,
    private readonly onFailure: (error: unknown) => void,
  ) {
    this.#rest = new Rest(clock);
  }

  start(): Promise<void> {
    this.#stopped = false;
    this.#schedule(firstMs);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#rest.cutShort();
    await this.#working;
  }

  /** One pass over all that is due. Rejects where the storage fails; the next pass goes on. */
  async run(): Promise<RetentionCounts> {
    const today = Math.floor(this.clock.now() / 86_400_000);
    await this.#raiseFloors(today);
    const droppedDays = await this.#dropDays();
    const deletedEvents = await this.#deleteBelowFloors();
    // The window is 24 hours at least, so yesterday's are kept.
    const deletedDedup = await this.#repeat((limit) => deleteDedupBefore(this.database, today - 1, limit));
    return { droppedDays, deletedEvents, deletedDedup };
  }

  async #raiseFloors(today: number): Promise<void> {
    for (let after = '0'; !this.#stopped;) {
      const due = await dueOrgs(this.database, today, after, orgsPerPage);
      for (const { org, retention_days: days } of due) {
        while (!this.#stopped && !(await this.expire(org, today - days)));
      }
      const last = due.at(-1);
      if (last === undefined || due.length < orgsPerPage) return;
      after = last.org;
    }
  }

  async #dropDays(): Promise<number> {
    const lowest = await lowestFloor(this.database);
    if (lowest === null) return 0;
    let dropped = 0;
    const days = [...(await existingPartitions(this.database))].map(partitionDay).filter((day) => day < lowest);
    for (const day of days.toSorted((a, b) => a - b)) {
      for (let tries = 1; !this.#stopped; tries++) {
        if (await dropPartition(this.database, day)) {
          dropped++;
          break;
        }
        // The next pass tries again, too.
        if (tries === dropTries) return dropped;
        await this.#pause(dropPauseMs);
      }
    }
    return dropped;
  }

  async #deleteBelowFloors(): Promise<number> {
    const stored = [...(await existingPartitions(this.database))].map(partitionDay);
    const firstStored = Math.min(...stored);
    const isStored = new Set(stored);
    let deleted = 0;
    for (let after = '0'; !this.#stopped;) {
      const orgs = await unpurgedOrgs(this.database, firstStored, after, orgsPerPage);
      for (const { org, from_day: from, first_day: until, first_position: floor } of orgs) {
        for (let day = from; day < until && !this.#stopped; day++) {
          if (!isStored.has(day)) continue;
          deleted += await this.#repeat((limit) => deleteEventsBelow(this.database, org, day, floor, limit));
        }
        if (!this.#stopped) await notePurged(this.database, org, until);
      }
      const last = orgs.at(-1);
      if (last === undefined || orgs.length < orgsPerPage) break;
      after = last.org;
    }
    return deleted;
  }

  /** Deletes until a statement finds less than it may. */
  async #repeat(deleteSome: (limit: number) => Promise<number>): Promise<number> {
    for (let total = 0; ;) {
      const deleted = this.#stopped ? 0 : await deleteSome(rowsMax);
      total += deleted;
      if (deleted < rowsMax) return total;
      await this.#pause(restMs);
    }
  }

  async #pause(ms: number): Promise<void> {
    if (!this.#stopped) await this.#rest.take(ms);
  }

  async #runAndSchedule(): Promise<void> {
    try {
      this.onDone(await this.run());
    } catch (error) {
      this.onFailure(error);
    }
    this.#working = null;
    if (!this.#stopped) this.#schedule(everyMs);
  }

  #schedule(ms: number): void {
    this.#cancelTimer = this.clock.after(ms, () => {
      this.#working = this.#runAndSchedule();
    });
  }
}

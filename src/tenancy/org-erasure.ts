import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { StorageError } from '../db/database.js';
import type { ErasedBatch, ErasedTable } from '../db/sql/deletions.js';
import { erasedTables, eraseEvents, eraseRows, erasureStep, finishErasure, unerasedOrgs } from '../db/sql/deletions.js';
import { partitionDays } from '../db/sql/partitions.js';
import type { Service } from '../lifecycle.js';
import { Rounds } from '../rounds.js';

export interface OrgErasureOptions {
  readonly database: Database;
  readonly clock: Clock;
  /** Told of each org that is erased, with how many rows this node deleted for it. */
  readonly onErased: (org: string, rows: number) => void;
  readonly onFailure: (error: unknown) => void;
  /** Rows one transaction deletes, events and others. Default 500 and 1,000. */
  readonly batchEventsMax?: number;
  readonly batchRowsMax?: number;
}

const orgsPage = 100;
/** How often what requests under way have added is looked for, in one go. */
const passesMax = 3;
/** SQLSTATE foreign_key_violation: something refers to the org. */
const stillReferred = '23503';

/**
 * Erases deleted orgs: batch after batch, each in a transaction of its own, until nothing is left. How far it is, the rows tell that are left, so it may be
 * killed at any moment, and any node goes on; for one org, one at a time.
 */
export class OrgErasure implements Service {
  readonly name = 'org erasure';
  readonly #options: Required<OrgErasureOptions>;
  readonly #rounds: Rounds;

  constructor(options: OrgErasureOptions) {
    this.#options = { batchEventsMax: 500, batchRowsMax: 1_000, ...options };
    this.#rounds = new Rounds(options.clock, () => this.#eraseAll());
  }

  start(): Promise<void> {
    this.#rounds.start();
    return Promise.resolve();
  }

  /** Resolves when the batch under way is done. */
  stop(): Promise<void> {
    return this.#rounds.stop();
  }

  /** Looks at once: an org was deleted. */
  check(): void {
    this.#rounds.check();
  }

  /** False if there is more to do later. Never rejects. */
  async #eraseAll(): Promise<boolean> {
    const { database, onFailure } = this.#options;
    let isDone = true;
    try {
      for (let after = '0'; ;) {
        const orgs = await unerasedOrgs(database, after, orgsPage);
        for (const org of orgs) {
          if (this.#rounds.isStopped) return false;
          // One org that cannot be erased does not keep the others.
          const erased = await this.#erase(org).catch((error: unknown) => {
            onFailure(error);
            return false;
          });
          isDone &&= erased;
          after = org;
        }
        if (orgs.length < orgsPage) return isDone;
      }
    } catch (error) {
      onFailure(error);
      return false;
    }
  }

  /** False if it is stopped, or another node is at it. */
  async #erase(org: string): Promise<boolean> {
    const { database, clock, onErased } = this.#options;
    let rows = 0;
    for (let pass = 1; ; pass++) {
      for (const day of await partitionDays(database)) {
        const erased = await this.#eraseEvents(org, day);
        if (erased === null) return false;
        rows += erased;
      }
      for (const table of erasedTables) {
        const erased = await this.#eraseTable(org, table);
        if (erased === null) return false;
        rows += erased;
      }
      try {
        const finished = await erasureStep(database, org, async (tx) => {
          await finishErasure(tx, org, new Date(clock.now()));
          return true;
        });
        if (finished === null) return false;
        onErased(org, rows);
        return true;
      } catch (error) {
        const isReferred = error instanceof StorageError && error.sqlstate === stillReferred;
        if (!isReferred || pass === passesMax) throw error;
      }
    }
  }

  #eraseEvents(org: string, day: number): Promise<number | null> {
    const { database, batchEventsMax: limit } = this.#options;
    return this.#inBatches(limit, (after) =>
      erasureStep(database, org, (tx) => eraseEvents(tx, org, day, after, limit)),
    );
  }

  #eraseTable(org: string, table: ErasedTable): Promise<number | null> {
    const { database, batchRowsMax: limit } = this.#options;
    return this.#inBatches(limit, (after) =>
      erasureStep(database, org, (tx) => eraseRows(tx, table, org, after, limit)),
    );
  }

  /** How many rows it deleted; null if it is stopped, or another node is at it. */
  async #inBatches(
    limit: number,
    erase: (after: ErasedBatch['last']) => Promise<ErasedBatch | null>,
  ): Promise<number | null> {
    let total = 0;
    for (let after: ErasedBatch['last'] = null; ;) {
      if (this.#rounds.isStopped) return null;
      const erased = await erase(after);
      if (erased === null) return null;
      total += erased.rows;
      if (erased.rows < limit) return total;
      after = erased.last;
      await this.#rounds.pause();
    }
  }
}

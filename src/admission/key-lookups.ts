import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import type { KeyHolderRow } from '../db/sql/keys.js';
import { findKeysByHash } from '../db/sql/keys.js';
import { Problem } from '../errors.js';

/** Of one statement. */
const keysPerStatementMax = 256;
/** Above what a pool has sessions for; what comes then goes out together when one is answered. */
const statementsMax = 16;
/** Waiting and under way; beyond it a flood of unknown keys is refused without a look-up. */
const lookupsMax = keysPerStatementMax * statementsMax;

/** What the storage says of a key. */
export interface KeyAnswer {
  /** Null: it is nobody's. */
  readonly row: KeyHolderRow | null;
  /** Before its statement was sent. */
  readonly readAtMs: number;
}

interface Lookup {
  readonly hash: Buffer;
  readonly resolve: (answer: KeyAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** Looks keys up, those that are asked for in one turn of the event loop in one statement: with many orgs they come in crowds, after a start above all. */
export class KeyLookups {
  readonly #database: Database;
  readonly #clock: Clock;
  #waiting: Lookup[] = [];
  #underWay = 0;
  #statements = 0;
  #sendsSoon = false;

  constructor(database: Database, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  /** Rejects with `overloaded`, or with the failure of the storage. */
  find(hash: Buffer): Promise<KeyAnswer> {
    if (this.#underWay >= lookupsMax) {
      const detail = 'Too many keys are being looked up. Try again after the time in Retry-After.';
      return Promise.reject(new Problem('overloaded', detail, { retryAfterSeconds: 1 }));
    }
    this.#underWay++;
    this.#sendSoon();
    return new Promise((resolve, reject) => this.#waiting.push({ hash, resolve, reject }));
  }

  #sendSoon(): void {
    if (this.#sendsSoon || this.#statements >= statementsMax) return;
    this.#sendsSoon = true;
    setImmediate(() => {
      this.#sendsSoon = false;
      while (this.#waiting.length > 0 && this.#statements < statementsMax) {
        void this.#send(this.#waiting.splice(0, keysPerStatementMax));
      }
    });
  }

  async #send(lookups: readonly Lookup[]): Promise<void> {
    this.#statements++;
    const readAtMs = this.#clock.monotonic();
    try {
      const rows = await findKeysByHash(
        this.#database,
        lookups.map(({ hash }) => hash),
      );
      const byHash = new Map(rows.map((row) => [row.hash.toString('latin1'), row]));
      for (const { hash, resolve } of lookups) {
        resolve({ row: byHash.get(hash.toString('latin1')) ?? null, readAtMs });
      }
    } catch (error) {
      for (const { reject } of lookups) reject(error);
    } finally {
      this.#statements--;
      this.#underWay -= lookups.length;
      if (this.#waiting.length > 0) this.#sendSoon();
    }
  }
}

import type { Database } from '../db/database.js';
import { readAccessVersion } from '../db/sql/keys.js';

/** A version that was read is good for this long, counted from before it was asked for. */
const goodMs = 500;
/** From one poll's begin to the next one's. */
const pollMs = 200;
/** So that storage which takes longer than `pollMs` is polled as often all the same; and where it hangs, no more. */
const pollsMax = 3;

/**
 * Which version (migration 0008) all that is known of keys must have to be true still. Nothing runs on its own: who uses what it knows calls `keepFresh`,
 * and waits for nothing.
 */
export class AccessVersion {
  readonly #database: Database;
  #version: string | null = null;
  /** Before the newest answer was asked for. */
  #readAtMs = -Infinity;
  #polledAtMs = -Infinity;
  #pollsUnderWay = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Whether what was read together with `version` was true less than 500 ms before `nowMs`: a poll that began since then gave the same version, so no
   * change was committed between the two, whichever was first.
   */
  wasCurrent(version: string, nowMs: number): boolean {
    return version === this.#version && nowMs - this.#readAtMs < goodMs;
  }

  /** `version` was read by a statement that was sent at `readAtMs` or later. */
  saw(version: string, readAtMs: number): void {
    if (readAtMs < this.#readAtMs) return;
    this.#version = version;
    this.#readAtMs = readAtMs;
  }

  /** Begins a poll, if the last look at the version was 200 ms ago. */
  keepFresh(nowMs: number): void {
    if (nowMs - this.#readAtMs < pollMs || nowMs - this.#polledAtMs < pollMs) return;
    if (this.#pollsUnderWay >= pollsMax) return;
    this.#polledAtMs = nowMs;
    void this.#poll(nowMs);
  }

  async #poll(beganAtMs: number): Promise<void> {
    this.#pollsUnderWay++;
    try {
      this.saw(await readAccessVersion(this.#database), beganAtMs);
    } catch {
      // Then keys are looked up again, and whoever waits for that hears of the failure.
    } finally {
      this.#pollsUnderWay--;
    }
  }
}

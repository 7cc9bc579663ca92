import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { createPartition, existingPartitions, partitionName } from '../db/sql/partitions.js';
import type { Service } from '../lifecycle.js';

/** Partitions exist for yesterday (a clock that lags), today, and this many days ahead. */
const daysAhead = 7;
const checkMs = 3_600_000;
const retryMs = 60_000;

/** Keeps a partition of the log for every day that a batch can fall on. A day without one is a 503, so they are made a week ahead. */
export class Partitions implements Service {
  readonly name = 'partitions';
  #cancelTimer: (() => void) | null = null;
  #working: Promise<void> | null = null;
  #stopped = false;

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  /** Resolves when today's partition exists. */
  async start(): Promise<void> {
    await this.ensure();
    this.#schedule(checkMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    await this.#working;
  }

  async ensure(): Promise<void> {
    const today = Math.floor(this.clock.now() / 86_400_000);
    const existing = await existingPartitions(this.database);
    for (let day = today - 1; day <= today + daysAhead; day++) {
      if (!existing.has(partitionName(day))) await createPartition(this.database, day);
    }
  }

  /** Looks at once, because a partition was missed. A clock may jump further than partitions are made ahead: a machine that slept. */
  check(): void {
    if (this.#stopped || this.#working !== null) return;
    this.#cancelTimer?.();
    this.#working = this.#ensureAndSchedule();
  }

  async #ensureAndSchedule(): Promise<void> {
    let nextMs = checkMs;
    try {
      await this.ensure();
    } catch (error) {
      this.onFailure(error);
      nextMs = retryMs;
    }
    this.#working = null;
    if (!this.#stopped) this.#schedule(nextMs);
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer = this.clock.after(delayMs, () => this.check());
  }
}

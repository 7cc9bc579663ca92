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

  /** Resolves when yesterday's, today's and tomorrow's partitions exist. Those of later days follow: a first start need not wait for them. */
  async start(): Promise<void> {
    const today = this.#today();
    const missing = await this.#missing();
    const [near, later] = [missing.filter((day) => day <= today + 1), missing.filter((day) => day > today + 1)];
    for (const day of near) await createPartition(this.database, day);
    if (later.length > 0) this.check();
    else this.#schedule(checkMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    await this.#working;
  }

  async ensure(): Promise<void> {
    for (const day of await this.#missing()) {
      await createPartition(this.database, day);
    }
  }

  /** Looks at once, because a partition was missed. A clock may jump further than partitions are made ahead: a machine that slept. */
  check(): void {
    if (this.#stopped || this.#working !== null) return;
    this.#cancelTimer?.();
    this.#working = this.#ensureAndSchedule();
  }

  async #missing(): Promise<number[]> {
    const first = this.#today() - 1;
    const existing = await existingPartitions(this.database);
    return Array.from({ length: daysAhead + 2 }, (_, i) => first + i).filter(
      (day) => !existing.has(partitionName(day)),
    );
  }

  #today(): number {
    return Math.floor(this.clock.now() / 86_400_000);
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

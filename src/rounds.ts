import type { Clock } from './clock.js';
import { Rest } from './rest.js';

/** A start has better things to do. */
const firstMs = 1_000;
/** For what another node was told to do and did not come to. */
const everyMs = 60_000;
const retryMs = 5_000;
/** Between two batches, so that others get their turn. */
const pauseMs = 10;

/**
 * Calls `round` a second after the start, at once when it is told that there is work, and else once a minute; five seconds after a round that says
 * (false) that there is more to do later. One round at a time. `round` must not reject, and should end soon once `isStopped`.
 */
export class Rounds {
  #cancelTimer: (() => void) | null = null;
  #working: Promise<void> | null = null;
  #again = false;
  #stopped = false;
  readonly #rest: Rest;

  constructor(
    private readonly clock: Clock,
    private readonly round: () => Promise<boolean>,
  ) {
    this.#rest = new Rest(clock);
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  start(): void {
    this.#stopped = false;
    this.#schedule(firstMs);
  }

  /** Resolves when the round under way has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#rest.cutShort();
    await this.#working;
  }

  /** There is work: a round begins at once, or right behind the one under way. */
  check(): void {
    if (this.#stopped) return;
    if (this.#working !== null) {
      this.#again = true;
      return;
    }
    this.#cancelTimer?.();
    this.#working = this.#workAndSchedule();
  }

  /** A round's rest between two batches. Ends early when it is stopped. */
  async pause(): Promise<void> {
    if (!this.#stopped) await this.#rest.take(pauseMs);
  }

  #schedule(delayMs: number): void {
    this.#cancelTimer = this.clock.after(delayMs, () => this.check());
  }

  async #workAndSchedule(): Promise<void> {
    let isDone = true;
    do {
      this.#again = false;
      isDone = await this.round();
    } while (this.#again && !this.#stopped);
    this.#working = null;
    if (!this.#stopped) this.#schedule(isDone ? everyMs : retryMs);
  }
}

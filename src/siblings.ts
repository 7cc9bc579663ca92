/**
 * What the processes of one node tell each other, always through the one that started them. Nothing that is stored depends on it: a message that is
 * lost costs an org's limit a moment of precision, or a scrape; a worker of which none comes any more is taken for one that hangs.
 */
import type { Registry } from 'prom-client';
import type { Clock } from './clock.js';

export type Metrics = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** Tokens that were granted from a bucket. */
export interface Spent {
  /** Its name in every process. */
  readonly bucket: string;
  readonly tokens: number;
  readonly ratePerMinute: number;
  readonly burst: number;
}

/** What a process has for the others. */
export interface Sibling {
  metrics(): Promise<Metrics>;
  spentElsewhere(spent: readonly Spent[]): void;
}

export interface Siblings {
  /** From now on the others reach this process. */
  join(self: Sibling): void;
  /** Tells the others, soon. */
  spent(spent: Spent): void;
  /** The metrics of all of them as one text. Rejects with `overloaded` when they are not added up within `scrapeMsMax`. */
  scrape(): Promise<string>;
}

/** From a worker to the process that started it. */
export type ToPrimary =
  | { readonly kind: 'ready'; readonly address: string }
  /** Said every beat, whatever else is. */
  | { readonly kind: 'alive' }
  | { readonly kind: 'scrape' }
  | { readonly kind: 'metrics'; readonly scrape: number; readonly metrics: Metrics }
  | { readonly kind: 'spent'; readonly spent: readonly Spent[] };

/** To a worker. */
export type ToWorker =
  | { readonly kind: 'stop' }
  | { readonly kind: 'metrics'; readonly scrape: number }
  /** Null: it could not be done. */
  | { readonly kind: 'scraped'; readonly text: string | null }
  | { readonly kind: 'spent'; readonly spent: readonly Spent[] };

/** How often a worker that serves says that it is alive, and its primary looks whether it did. */
export const beatMsDefault = 2_000;
/** Longer than a primary waits for its workers. */
export const scrapeMsMax = 4_000;
/** What is granted in this time can be granted twice. Shorter costs messages: each is passed on to every other worker. */
const tellEveryMs = 25;
/** Beyond it, what is granted from further buckets is not told: for the moment these have a limit in each process. */
const bucketsMax = 10_000;
/** Buckets in one message: less than a millisecond to write and to read. */
const bucketsPerMessage = 500;

/**
 * Adds up what was granted until the last message is on its way, and sends the first at once. One message at a time, so that what waits for a reader
 * that has stalled is bounded.
 */
export class SpentOutbox {
  readonly #waiting = new Map<string, Spent>();
  #isResting = false;

  constructor(
    private readonly clock: Clock,
    /** Resolves when it is on its way, or cannot be. */
    private readonly send: (spent: readonly Spent[]) => Promise<void>,
  ) {}

  add(spent: Spent): void {
    const { bucket } = spent;
    const before = this.#waiting.get(bucket);
    if (before !== undefined) this.#waiting.set(bucket, { ...spent, tokens: before.tokens + spent.tokens });
    else if (this.#waiting.size < bucketsMax) this.#waiting.set(bucket, spent);
    if (!this.#isResting) void this.#sendSome();
  }

  async #sendSome(): Promise<void> {
    this.#isResting = true;
    const message: Spent[] = [];
    for (const [bucket, spent] of this.#waiting) {
      message.push(spent);
      this.#waiting.delete(bucket);
      if (message.length === bucketsPerMessage) break;
    }
    await this.send(message);
    this.clock.after(tellEveryMs, () => {
      this.#isResting = false;
      if (this.#waiting.size > 0) void this.#sendSome();
    });
  }
}

import { AggregatorRegistry } from 'prom-client';
import type { Clock } from '../clock.js';
import type { Metrics } from '../siblings.js';

/** A worker that has not answered by then counts with what it said before. */
const answerMsMax = 2_000;

/**
 * The metrics of all workers as one text: each counter and histogram is their sum, that of ended workers included as far as it was ever told, since a
 * counter that falls would be taken for one that began anew; each gauge is what its `aggregator` makes of those that run.
 */
export class NodeMetrics {
  readonly #last = new Map<number, Metrics>();
  #ended: Metrics[] = [];
  #scrape = 0;
  #unanswered = new Set<number>();
  #onAnswered: () => void = () => {};
  #collecting: Promise<string> | null = null;

  constructor(private readonly clock: Clock) {}

  /** Asks the workers with these ids by `ask`. One at a time, for whoever asks meanwhile as well. */
  collect(workers: readonly number[], ask: (worker: number, scrape: number) => void): Promise<string> {
    this.#collecting ??= this.#collect(workers, ask).finally(() => {
      this.#collecting = null;
    });
    return this.#collecting;
  }

  answered(worker: number, scrape: number, metrics: Metrics): void {
    this.#last.set(worker, metrics);
    if (scrape !== this.#scrape) return;
    this.#unanswered.delete(worker);
    this.#onAnswered();
  }

  ended(worker: number): void {
    const last = this.#last.get(worker);
    this.#last.delete(worker);
    if (last !== undefined) this.#ended.push(last.filter(isCounted));
    this.#unanswered.delete(worker);
    this.#onAnswered();
  }

  async #collect(workers: readonly number[], ask: (worker: number, scrape: number) => void): Promise<string> {
    const scrape = ++this.#scrape;
    this.#unanswered = new Set(workers);
    await new Promise<void>((resolve) => {
      const cancel = this.clock.after(answerMsMax, resolve);
      this.#onAnswered = () => {
        if (this.#unanswered.size > 0) return;
        cancel();
        resolve();
      };
      for (const worker of workers) ask(worker, scrape);
      this.#onAnswered();
    });
    if (this.#ended.length > 1) {
      // Those that end meanwhile come behind.
      const ended = this.#ended.splice(0);
      this.#ended.unshift(await AggregatorRegistry.aggregate(ended).getMetricsAsJSON());
    }
    return AggregatorRegistry.aggregate([...this.#last.values(), ...this.#ended]).metrics();
  }
}

/** The type is a word at run time, whatever is declared. */
function isCounted({ type }: Metrics[number]): boolean {
  return ['counter', 'histogram'].includes(String(type));
}

import type { Clock } from '../clock.js';

/** How much the newest batch counts against those before it: about the last ten make up the estimate. */
const newestWeight = 0.2;
/** By how much the fastest batch is forgotten with each one that is slower. */
const fastestGrowth = 1.02;

/** How long a queue takes to drain, judged by how long its batches have taken of late. */
export class DrainTime {
  readonly #clock: Clock;
  readonly #msMax: number;
  #batchMs = 0;
  #fastestMs = 0;
  #begunAtMs: number | null = null;
  #endedAtMs = -Infinity;

  /** `msMax`: nothing waits longer than this, so that no estimate is longer. */
  constructor(clock: Clock, msMax: number) {
    this.#clock = clock;
    this.#msMax = msMax;
  }

  /** Measures a batch from its begin to its end, however it ends. */
  async measure<T>(batch: Promise<T>): Promise<T> {
    const begunAtMs = this.#clock.monotonic();
    const usualMs = this.#usualMs(begunAtMs);
    this.#batchMs = usualMs;
    this.#begunAtMs = begunAtMs;
    try {
      return await batch;
    } finally {
      this.#endedAtMs = this.#clock.monotonic();
      const ms = this.#endedAtMs - begunAtMs;
      this.#batchMs = usualMs === 0 ? ms : usualMs + newestWeight * (ms - usualMs);
      // Forgotten slowly, should the storage become slower.
      this.#fastestMs = this.#fastestMs === 0 ? ms : Math.min(ms, this.#fastestMs * fastestGrowth);
      this.#begunAtMs = null;
    }
  }

  /** What a batch takes when nothing else keeps this process busy: the fastest of late. */
  get fastestMs(): number {
    return this.#fastestMs;
  }

  /** How long the batch under way has taken; 0 if there is none. */
  get elapsedMs(): number {
    return this.#begunAtMs === null ? 0 : this.#clock.monotonic() - this.#begunAtMs;
  }

  /** How long so many batches take. One that is under way and takes longer than usual is a sign that they will, too. */
  msFor(batches: number): number {
    const usualMs = this.#begunAtMs === null ? this.#usualMs(this.#clock.monotonic()) : this.#batchMs;
    return batches * Math.max(usualMs, this.elapsedMs);
  }

  /** What was long ago says nothing of now. */
  #usualMs(atMs: number): number {
    return atMs - this.#endedAtMs > this.#msMax ? 0 : this.#batchMs;
  }

  /** After how many seconds so many batches are gone: what a refused client is told. At least one. */
  secondsFor(batches: number): number {
    return Math.max(1, Math.ceil(Math.min(this.#msMax, this.msFor(batches)) / 1000));
  }
}

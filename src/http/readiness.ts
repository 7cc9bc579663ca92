import type { Clock } from '../clock.js';

/** Whether this node can store an event right now. */
export class Readiness {
  #draining = false;
  #last: { readonly atMs: number; readonly failing: Promise<string | null> } | null = null;

  constructor(
    private readonly clock: Clock,
    /** Writes through the same session as events do, and rolls back. Rejects if that is not possible. */
    private readonly probeStorage: () => Promise<void>,
    /** Names a part that fails though storage could write, or null. */
    private readonly failingBesides: () => string | null = () => null,
  ) {}

  /** From now on the node is not ready: whoever balances load should send no more. */
  drain(): void {
    this.#draining = true;
  }

  /** The part that fails, or null. Storage is asked at most every `probeEveryMs`, however often this is. */
  failing(): Promise<string | null> {
    if (this.#draining) return Promise.resolve('draining');
    const besides = this.failingBesides();
    if (besides !== null) return Promise.resolve(besides);
    const nowMs = this.clock.monotonic();
    if (this.#last === null || nowMs - this.#last.atMs >= probeEveryMs) {
      this.#last = { atMs: nowMs, failing: this.#probe() };
    }
    return this.#last.failing;
  }

  #probe(): Promise<string | null> {
    const answer = this.probeStorage().then(
      () => null,
      () => 'storage',
    );
    const late = new Promise<string>((resolve) => {
      this.clock.after(probeMsMax, () => resolve('storage'));
    });
    return Promise.race([answer, late]);
  }
}

const probeEveryMs = 500;
const probeMsMax = 3_000;

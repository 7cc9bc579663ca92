import { sleep } from './clock.js';
import type { ClientClock } from './clock.js';
import { SluiceError } from './error.js';
import type { Inbox } from './inbox.js';
import { onAbort } from './on-abort.js';
import { isPassing } from './retry.js';

export interface HeldLeaseOptions {
  readonly inbox: Pick<Inbox, 'extend'>;
  readonly clock: ClientClock;
  readonly leaseSeconds: number;
  readonly onError: (error: unknown, event: null) => void;
}

/**
 * A lease that is extended at half its time for as long as it holds an event. It is lost when the server says so (404, 409), or could not be
 * asked until its end. That end is reckoned from before each extension, so that it is not later than the server's.
 */
export class HeldLease {
  readonly #open: Map<string, 'held' | 'settling'>;
  readonly #lost = new AbortController();
  readonly #empty = new AbortController();
  #endsAt: number;

  /** `events` were just received under it. */
  constructor(
    readonly id: string,
    events: readonly { readonly id: string }[],
    private readonly options: HeldLeaseOptions,
  ) {
    this.#open = new Map(events.map((event) => [event.id, 'held']));
    this.#endsAt = options.clock.monotonic() + options.leaseSeconds * 1000;
    void this.#keep();
  }

  /** Aborted when its events are no longer this consumer's. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** True until the event is being settled. */
  holds(eventId: string): boolean {
    return this.#open.get(eventId) === 'held';
  }

  settling(eventId: string): void {
    this.#open.set(eventId, 'settling');
  }

  release(eventId: string): void {
    this.#open.delete(eventId);
    if (this.#open.size === 0) this.#empty.abort();
  }

  async #keep(): Promise<void> {
    const { clock, leaseSeconds } = this.options;
    try {
      do await sleep(clock, (leaseSeconds * 1000) / 2, this.#empty.signal);
      while (await this.#extended());
    } catch {
      // It is empty: nobody needs it any more.
      return;
    }
    this.#lost.abort(new Error('The lease has ended, so the event may have been handed out again.'));
  }

  /** False when it is lost. Throws when it has become empty. */
  async #extended(): Promise<boolean> {
    const { clock, leaseSeconds, inbox, onError } = this.options;
    const ended = new AbortController();
    const disarm = clock.after(this.#endsAt - clock.monotonic(), () => ended.abort());
    const forget = onAbort(this.#empty.signal, () => ended.abort());
    try {
      while (!ended.signal.aborted) {
        const askedAt = clock.monotonic();
        try {
          await inbox.extend(this.id, leaseSeconds, { signal: ended.signal });
          this.#endsAt = askedAt + leaseSeconds * 1000;
          return true;
        } catch (error) {
          this.#empty.signal.throwIfAborted();
          if (ended.signal.aborted) return false;
          onError(error, null);
          if (!(error instanceof SluiceError) || !isPassing(error)) return false;
        }
        await sleep(clock, (leaseSeconds * 1000) / 20, ended.signal).catch(() => {});
      }
      this.#empty.signal.throwIfAborted();
      return false;
    } finally {
      disarm();
      forget();
    }
  }
}

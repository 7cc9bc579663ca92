/**
 * The consumer loop. Events are received ahead of what runs, `max` at most are held, and each is held until it is settled:
 *
 *   received ─→ queued ─→ running ─┬─ returned ─→ acknowledged
 *                 │                ├─ threw, too long ─→ given back, pending again after a delay
 *                 │                └─ its lease is lost ─→ its signal is aborted; acknowledged only if it returns
 *                 └─ stopping ─→ given back
 */
import { Coalescer } from './coalescer.js';
import { sleep } from './clock.js';
import type { ClientClock } from './clock.js';
import { SluiceError } from './error.js';
import type { Inbox, ReceivedEvent } from './inbox.js';
import { HeldLease } from './held-lease.js';
import { onAbort } from './on-abort.js';
import { isPassing } from './retry.js';

export interface HandlerContext {
  /** Aborted when the event is no longer this consumer's: its lease was lost, or the handler took too long. */
  readonly signal: AbortSignal;
}

export type Handler = (event: ReceivedEvent, context: HandlerContext) => unknown;

export interface ConsumeOptions {
  /** Handlers that run at one time; 10 when absent. 1 hands events over in the order of the log, but for those that are repeated. */
  readonly concurrency?: number;
  /** Events held at one time, 1 to 1,000; twice the concurrency when absent. */
  readonly max?: number;
  /** 2 to 43,200; 60 when absent. What a consumer held that has died is handed out again after this time; a living one extends it. */
  readonly leaseSeconds?: number;
  /** Seconds that one request waits for events, 0 to 30; 20 when absent. */
  readonly waitSeconds?: number;
  /** Seconds that a handler may take; 3,600 when absent. Then its signal is aborted and the event given back. */
  readonly handlerSeconds?: number;
  /** Seconds until an event is handed out again whose handler has thrown. When absent 1, 2, 4 and so on up to 300, by its attempt. */
  readonly retryDelaySeconds?: (event: ReceivedEvent, error: unknown) => number;
  /** Gives each event its payload as text, too. */
  readonly rawPayload?: boolean;
  /**
   * Told of what the loop itself survives: handlers that threw (with their event), requests that failed. What it throws, or `retryDelaySeconds`,
   * ends the loop.
   */
  readonly onError?: (error: unknown, event: ReceivedEvent | null) => void;
  /** Ends the loop. */
  readonly signal?: AbortSignal;
}

interface Task {
  readonly event: ReceivedEvent;
  readonly lease: HeldLease;
}

interface GivenBack extends Task {
  readonly delaySeconds: number;
}

const eventsPerRequestMax = 1_000;
const retryDelaySecondsMax = 300;
const receiveBackoffMsMax = 30_000;

export class Consumer {
  readonly #options: Required<Omit<ConsumeOptions, 'max' | 'signal'>>;
  readonly #max: number;
  readonly #userSignal: AbortSignal | undefined;
  readonly #stopping = new AbortController();
  readonly #queue: Task[] = [];
  readonly #acks: Coalescer<string>;
  readonly #nacks: Coalescer<GivenBack>;
  /** What a callback of the caller's threw. */
  #failure: { readonly error: unknown } | undefined;
  #running = 0;
  #held = 0;
  #changed: (() => void) | undefined;

  constructor(
    private readonly inbox: Pick<Inbox, 'receive' | 'ack' | 'nack' | 'extend'>,
    private readonly clock: ClientClock,
    private readonly handler: Handler,
    { max, signal, ...options }: ConsumeOptions,
  ) {
    this.#options = {
      concurrency: 10,
      leaseSeconds: 60,
      waitSeconds: 20,
      handlerSeconds: 3_600,
      retryDelaySeconds: ({ attempt }) => Math.min(retryDelaySecondsMax, 2 ** (attempt - 1)),
      rawPayload: false,
      onError: () => {},
      ...options,
    };
    this.#max = max ?? Math.min(eventsPerRequestMax, 2 * this.#options.concurrency);
    if (!(this.#options.concurrency >= 1)) throw new RangeError('concurrency is at least 1.');
    if (!(this.#max >= 1 && this.#max <= eventsPerRequestMax))
      throw new RangeError(`max is 1 to ${eventsPerRequestMax}.`);
    if (!(this.#options.leaseSeconds >= 2)) throw new RangeError('leaseSeconds is at least 2.');
    this.#userSignal = signal;
    this.#acks = new Coalescer(eventsPerRequestMax, async (ids) => {
      await inbox.ack(ids);
    });
    this.#nacks = new Coalescer(eventsPerRequestMax, (items) => this.#giveBack(items));
  }

  /**
   * Resolves when it was stopped and everything it held is settled. Throws a `SluiceError` that another attempt would only repeat, and what the
   * caller's `onError` or `retryDelaySeconds` throws.
   */
  async run(): Promise<void> {
    const stop = (): void => this.#stopping.abort();
    const forget = onAbort(this.#userSignal, stop);
    try {
      await this.#receiveUntilStopped();
    } finally {
      stop();
      forget();
      for (const task of this.#queue.splice(0)) void this.#settle(task, this.#nacks.add({ ...task, delaySeconds: 0 }));
      while (this.#held > 0) await this.#change();
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #tell(error: unknown, event: ReceivedEvent | null): void {
    try {
      this.#options.onError(error, event);
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stopping.abort();
  }

  async #receiveUntilStopped(): Promise<void> {
    const { signal } = this.#stopping;
    const { waitSeconds, leaseSeconds, rawPayload } = this.#options;
    let failures = 0;
    onAbort(signal, () => this.#changed?.());
    while (!signal.aborted) {
      // Refilled when half is settled: fewer, larger requests, and never an idle handler.
      if (this.#held > this.#max / 2) {
        await this.#change();
        continue;
      }
      try {
        const max = this.#max - this.#held;
        const { lease_id, data } = await this.inbox.receive({ max, waitSeconds, leaseSeconds, rawPayload, signal });
        failures = 0;
        if (lease_id !== null && data.length > 0) this.#take(lease_id, data);
        else if (waitSeconds === 0) await this.#pause(1_000);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof SluiceError) || !isPassing(error)) throw error;
        this.#tell(error, null);
        await this.#pause(this.clock.random() * Math.min(receiveBackoffMsMax, 1_000 * 2 ** failures++));
      }
    }
  }

  #take(leaseId: string, events: readonly ReceivedEvent[]): void {
    const { leaseSeconds } = this.#options;
    const onError = this.#tell.bind(this);
    const lease = new HeldLease(leaseId, events, { inbox: this.inbox, clock: this.clock, leaseSeconds, onError });
    onAbort(lease.lost, () => this.#drop(lease));
    this.#held += events.length;
    for (const event of events) this.#queue.push({ event, lease });
    this.#startQueued();
  }

  #startQueued(): void {
    while (this.#running < this.#options.concurrency) {
      const task = this.#stopping.signal.aborted ? undefined : this.#queue.shift();
      if (task === undefined) return;
      this.#running++;
      void this.#handle(task).finally(() => {
        this.#running--;
        this.#startQueued();
      });
    }
  }

  /** Resolves when the handler has ended, whatever became of the event. */
  async #handle(task: Task): Promise<void> {
    const { event, lease } = task;
    const controller = new AbortController();
    const forget = onAbort(lease.lost, () => controller.abort(lease.lost.reason));
    const { handlerSeconds } = this.#options;
    const disarm = this.clock.after(handlerSeconds * 1000, () => {
      const late = new Error(`The handler took longer than ${handlerSeconds} seconds.`);
      controller.abort(late);
      this.#failed(task, late);
    });
    try {
      await this.handler(event, { signal: controller.signal });
      // Also when the lease was lost: what has not been handed out again is settled by it.
      if (lease.holds(event.id)) void this.#settle(task, this.#acks.add(event.id));
    } catch (error) {
      this.#failed(task, error);
    } finally {
      disarm();
      forget();
    }
  }

  #failed(task: Task, error: unknown): void {
    const { event, lease } = task;
    if (!lease.holds(event.id)) return;
    this.#tell(error, event);
    // By now another consumer may have it, whose lease this would end.
    if (lease.lost.aborted) return this.#release(task);
    const delaySeconds = this.#retryDelaySeconds(event, error);
    void this.#settle(task, this.#nacks.add({ ...task, delaySeconds }));
  }

  #retryDelaySeconds(event: ReceivedEvent, error: unknown): number {
    try {
      return this.#options.retryDelaySeconds(event, error);
    } catch (thrown) {
      this.#fail(thrown);
      return 0;
    }
  }

  /** Its lease is kept until the server has answered. */
  async #settle(task: Task, settled: Promise<void>): Promise<void> {
    task.lease.settling(task.event.id);
    try {
      await settled;
    } catch (error) {
      this.#tell(error, task.event);
    }
    this.#release(task);
  }

  #release({ event, lease }: Task): void {
    lease.release(event.id);
    this.#held--;
    this.#changed?.();
  }

  /** What has not begun of a lost lease is somebody else's. */
  #drop(lease: HeldLease): void {
    for (const task of this.#queue.filter((queued) => queued.lease === lease)) {
      this.#queue.splice(this.#queue.indexOf(task), 1);
      this.#release(task);
    }
  }

  async #giveBack(items: readonly GivenBack[]): Promise<void> {
    const byDelay = new Map<number, GivenBack[]>();
    for (const item of items) byDelay.set(item.delaySeconds, [...(byDelay.get(item.delaySeconds) ?? []), item]);
    for (const [delaySeconds, some] of byDelay) await this.#nack(some, delaySeconds);
  }

  /** What is under a lost lease another consumer may have by now, and would lose: it is left out, and the retries end where one is lost meanwhile. */
  async #nack(items: readonly GivenBack[], delaySeconds: number): Promise<void> {
    const held = items.filter(({ lease }) => !lease.lost.aborted);
    if (held.length === 0) return;
    const lost = new AbortController();
    const leases = Array.from(new Set(held.map(({ lease }) => lease)));
    const forget = leases.map((lease) => onAbort(lease.lost, () => lost.abort(lease.lost.reason)));
    try {
      const ids = held.map(({ event }) => event.id);
      await this.inbox.nack(ids, { delaySeconds, signal: lost.signal });
    } finally {
      for (const end of forget) end();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#changed = resolve;
    });
  }

  /** Cut short by the stop. */
  #pause(delayMs: number): Promise<void> {
    return sleep(this.clock, delayMs, this.#stopping.signal).catch(() => {});
  }
}

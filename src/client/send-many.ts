/** Any number of events, cut into batches while they come. */
import { batchBytesMax, batchEventsMax, storeBatch } from './batch.js';
import type { SendResult } from './batch.js';
import type { ClientClock } from './clock.js';
import { SluiceError } from './error.js';
import { encodeEvent } from './event.js';
import type { EncodedEvent, EventText, NewEvent } from './event.js';
import { onAbort } from './on-abort.js';
import type { Transport } from './transport.js';

export interface SendManyOptions {
  /**
   * Batches under way at one time, 1 to 64; 1 when absent, which stores the events in their order. More are faster where the way to the
   * server is long, and may overtake each other.
   */
  readonly concurrency?: number;
  /**
   * Told of each batch as it is answered, what became of each of its events; of one that fails halfway only of those that are known. What it
   * throws ends the sending.
   */
  readonly onResults?: (outcomes: readonly SendOutcome[]) => void;
  readonly signal?: AbortSignal;
}

export interface SendOutcome {
  /** The place of the event in the source, counted from 0. */
  readonly index: number;
  readonly event: NewEvent | EventText;
  readonly result: SendResult;
}

export interface SendSummary {
  /** Stored now. */
  readonly accepted: number;
  /** Stored before under their `dedup_id`. */
  readonly duplicates: number;
  readonly rejected: number;
  /** The first ones that were rejected, at most 100. */
  readonly refusals: readonly SendOutcome[];
}

type Source = Iterable<NewEvent | EventText> | AsyncIterable<NewEvent | EventText>;

const concurrencyMax = 64;
const refusalsMax = 100;
/** A source that is slow gets its events stored after this, though their batch has room. */
const lingerMs = 50;

/**
 * Sends the events of a source, which is read only as fast as they are stored: beside the batches under way one more is gathered. A refused
 * event does not end it; a refused request does, after its retries: then nothing more is read, and a `SluiceError` is thrown. What was stored
 * by then, `onResults` has been told.
 */
export async function sendMany(transport: Transport, source: Source, options: SendManyOptions): Promise<SendSummary> {
  const sending = new Sending(transport, options);
  try {
    for await (const batch of batches(source, sending, transport.clock)) await sending.begin(batch);
  } finally {
    await sending.idle();
  }
  return sending.summary();
}

interface Item {
  readonly event: NewEvent | EventText;
  /** What is to be sent, or why it cannot be. */
  readonly encoded: EncodedEvent | SendResult;
}

type OnResult = (index: number, result: SendResult) => void;

interface Batch {
  readonly first: number;
  readonly items: readonly Item[];
}

class Sending {
  /** Shrinks when the org's bucket cannot hold as many. */
  eventsMax = batchEventsMax;
  #failure: { readonly error: unknown } | undefined;
  /** Ends the waiting for the source. */
  wake: (() => void) | undefined;
  readonly #concurrency: number;
  readonly #running = new Set<Promise<void>>();
  readonly #count = { accepted: 0, duplicates: 0, rejected: 0 };
  readonly #refusals: SendOutcome[] = [];
  readonly #forget: () => void;

  constructor(
    private readonly transport: Transport,
    private readonly options: SendManyOptions,
  ) {
    const { concurrency = 1, signal } = options;
    if (!(concurrency >= 1 && concurrency <= concurrencyMax)) {
      throw new RangeError(`concurrency is 1 to ${concurrencyMax}.`);
    }
    signal?.throwIfAborted();
    this.#forget = onAbort(signal, () => this.#fail(signal?.reason));
    this.#concurrency = concurrency;
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Resolves when another batch may be read. */
  async begin(batch: Batch): Promise<void> {
    const running = this.#store(batch)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    if (this.#running.size >= this.#concurrency) await Promise.race(this.#running);
  }

  /** Resolves when no batch is under way any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#running);
    this.#forget();
  }

  summary(): SendSummary {
    if (this.#failure !== undefined) throw this.#failure.error;
    return { ...this.#count, refusals: this.#refusals };
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.wake?.();
  }

  /** Tells what is known of a batch, also when it fails halfway. */
  async #store({ first, items }: Batch): Promise<void> {
    const results = new Map<number, SendResult>();
    try {
      const encoded = items.map((item) => item.encoded).filter(isEncoded);
      await this.#send(encoded, (index, result) => results.set(index, result));
    } finally {
      let sent = 0;
      const outcomes = items.flatMap(({ event, encoded }, i) => {
        const result = isEncoded(encoded) ? results.get(sent++) : encoded;
        return result === undefined ? [] : [{ index: first + i, event, result }];
      });
      for (const outcome of outcomes) this.#tally(outcome);
      if (outcomes.length > 0) this.options.onResults?.(outcomes);
    }
  }

  /** A batch that is more than the org may ever send at once goes in halves. */
  async #send(events: readonly EncodedEvent[], onResult: OnResult): Promise<void> {
    if (events.length === 0) return;
    if (events.length > this.eventsMax) return this.#sendHalves(events, onResult);
    let isBegun = false;
    const { signal } = this.options;
    try {
      await storeBatch(this.transport, events, { atomic: false, signal }, (index, result) => {
        isBegun = true;
        onResult(index, result);
      });
    } catch (error) {
      const isTooMuch = error instanceof SluiceError && error.status === 413 && events.length > 1 && !isBegun;
      if (!isTooMuch) throw error;
      if (error.code === 'rate_exceeds_burst') this.eventsMax = Math.min(this.eventsMax, Math.ceil(events.length / 2));
      return this.#sendHalves(events, onResult);
    }
  }

  async #sendHalves(events: readonly EncodedEvent[], onResult: OnResult): Promise<void> {
    const half = Math.ceil(events.length / 2);
    await this.#send(events.slice(0, half), onResult);
    await this.#send(events.slice(half), (index, result) => onResult(half + index, result));
  }

  #tally(outcome: SendOutcome): void {
    const { status } = outcome.result;
    if (status === 201) this.#count.accepted++;
    else if (status === 200) this.#count.duplicates++;
    else {
      this.#count.rejected++;
      if (this.#refusals.length < refusalsMax) this.#refusals.push(outcome);
    }
  }
}

function isEncoded(item: EncodedEvent | SendResult): item is EncodedEvent {
  return 'text' in item;
}

/** A batch ends when it is full, when the source has ended, and when nothing more has come for a moment. */
async function* batches(source: Source, sending: Sending, clock: ClientClock): AsyncGenerator<Batch, void, undefined> {
  const events = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let first = 0;
  let items: Item[] = [];
  let bytes = 2;
  let stopLingering: (() => void) | undefined;
  const cut = (): Batch => {
    stopLingering?.();
    const batch = { first, items };
    first += items.length;
    items = [];
    bytes = 2;
    return batch;
  };
  try {
    while (!sending.hasFailed) {
      const coming = events.next();
      let next = await orWoken(coming, sending);
      if (next === undefined && !sending.hasFailed) {
        yield cut();
        next = await orWoken(coming, sending);
      }
      if (next === undefined) return;
      if (next.done === true) {
        if (items.length > 0) yield cut();
        return;
      }
      const event = next.value;
      const encoded = encodedOrRefused(event);
      const itemBytes = isEncoded(encoded) ? byteLength(encoded.text) + 1 : 0;
      if (items.length > 0 && bytes + itemBytes > batchBytesMax) yield cut();
      if (items.length === 0) stopLingering = clock.after(lingerMs, () => sending.wake?.());
      items.push({ event, encoded });
      bytes += itemBytes;
      if (items.length >= sending.eventsMax) yield cut();
    }
  } finally {
    stopLingering?.();
    // Not awaited: a source that waits for its next event would not end before that has come.
    if (sending.hasFailed) Promise.resolve(events.return?.()).catch(() => {});
  }
}

type Coming = IteratorResult<NewEvent | EventText, unknown>;

/** What comes, or undefined once `sending` is woken. Unlike `Promise.race` with a promise that outlives it, it leaves nothing behind. */
function orWoken(coming: Coming | Promise<Coming>, sending: Sending): Promise<Coming | undefined> | Coming {
  if (!(coming instanceof Promise)) return coming;
  return new Promise((resolve, reject) => {
    sending.wake = () => resolve(undefined);
    coming.then(resolve, reject);
  });
}

/** What cannot be sent is refused here, as the server would. */
function encodedOrRefused(event: NewEvent | EventText): EncodedEvent | SendResult {
  try {
    const encoded = encodeEvent(event);
    if (byteLength(encoded.text) + 3 <= batchBytesMax) return encoded;
    return { status: 413, code: 'payload_too_large', detail: 'The event has more bytes than a batch may have.' };
  } catch (error) {
    return { status: 400, code: 'invalid_json', detail: error instanceof Error ? error.message : String(error) };
  }
}

const encoder = new TextEncoder();

function byteLength(text: string): number {
  return encoder.encode(text).length;
}

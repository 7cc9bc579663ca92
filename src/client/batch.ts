/** One request with many events, repeated for those that the server could not store at the moment. */
import { sleep } from './clock.js';
import { SluiceError, uncertain } from './error.js';
import type { FieldError } from './error.js';
import type { EncodedEvent } from './event.js';
import { isPassing, nextAttemptDelayMs } from './retry.js';
import type { Transport } from './transport.js';

export type Durability = 'fsync' | 'replicated' | 'memory';

/** What became of one event: `id` and what follows it up to `duplicate` with 201 and 200, the rest with the others. */
export interface SendResult {
  /** 201 stored, 200 stored before under its `dedup_id`; any other: refused. */
  readonly status: number;
  readonly id?: string;
  readonly received_at?: string;
  readonly durability?: Durability;
  readonly duplicate?: boolean;
  readonly code?: string;
  readonly detail?: string;
  readonly errors?: readonly FieldError[];
}

export const batchEventsMax = 1_000;
export const batchBytesMax = 8 * 1024 * 1024;

interface BatchOptions {
  readonly atomic: boolean;
  readonly signal: AbortSignal | undefined;
}

/**
 * Stores up to 1,000 events. Resolves with a result for each, in their order. Throws a `SluiceError` when the request as a whole is refused
 * and nothing is known of any event; if that happens to a repetition, the events that it was for have the refusal as their result.
 */
export async function sendBatch(
  transport: Transport,
  events: readonly EncodedEvent[],
  options: BatchOptions,
): Promise<SendResult[]> {
  const results = new Map<number, SendResult>();
  try {
    await storeBatch(transport, events, options, (index, result) => results.set(index, result));
  } catch (error) {
    if (results.size === 0 || !(error instanceof SluiceError)) throw error;
    const refused = resultOf(error);
    return events.map((_, index) => results.get(index) ?? refused);
  }
  return events.flatMap((_, index) => results.get(index) ?? []);
}

/** As `sendBatch`, but tells `onResult` of each event as soon as its result is final. What it did not tell of when it throws is unknown. */
export async function storeBatch(
  transport: Transport,
  events: readonly EncodedEvent[],
  { atomic, signal }: BatchOptions,
  onResult: (index: number, result: SendResult) => void,
): Promise<void> {
  const { clock, retryLimits } = transport;
  const beganAt = clock.monotonic();
  /** The answers of attempts that may have stored their events. */
  const unknown = new Map<number, SendResult>();
  let open = events.map((_, index) => index);
  for (let attempt = 1; ; attempt++) {
    const batch = open.flatMap((index) => events[index] ?? []);
    const answers = await request(transport, batch, atomic, signal).catch((error: unknown) => {
      throw error instanceof SluiceError && open.some((index) => unknown.has(index)) ? uncertain(error) : error;
    });
    const at = { attempt, elapsedMs: clock.monotonic() - beganAt, random: clock.random() };
    const again: number[] = [];
    let againMs = 0;
    for (const [i, index] of open.entries()) {
      const event = events[index];
      const answer = answers[i];
      if (event === undefined || answer === undefined) throw shortAnswer(batch.length, answers.length);
      const result = settled(event, answer);
      const failure = itemError(result);
      if (failure.mayHaveTakenEffect) unknown.set(index, result);
      const delayMs = nextAttemptDelayMs(failure, event.isRepeatable ? 'harmless' : 'doubles', at, retryLimits);
      if (delayMs === null) {
        onResult(index, (isPassing(failure) ? unknown.get(index) : undefined) ?? result);
      } else {
        again.push(index);
        againMs = Math.max(againMs, delayMs);
      }
    }
    if (again.length === 0) return;
    await sleep(clock, againMs, signal);
    open = again;
  }
}

async function request(
  transport: Transport,
  events: readonly EncodedEvent[],
  atomic: boolean,
  signal: AbortSignal | undefined,
): Promise<readonly SendResult[]> {
  const { results } = await transport.json<{ readonly results: readonly SendResult[] }>({
    method: 'POST',
    path: '/v1/events/batch',
    query: { atomic: atomic ? 'true' : undefined },
    body: `[${events.map(({ text }) => text).join(',')}]`,
    repeat: events.every(({ isRepeatable }) => isRepeatable) ? 'harmless' : 'doubles',
    signal,
  });
  return results;
}

/** A duplicate of a `dedup_id` that this client made is the event itself, stored by an attempt whose answer was lost. */
function settled(event: EncodedEvent, answer: SendResult): SendResult {
  return event.hasOwnDedupId && answer.status === 200 ? { ...answer, status: 201, duplicate: false } : answer;
}

function itemError(result: SendResult | undefined): SluiceError {
  const { status = 0, code = '', detail = '' } = result ?? {};
  return new SluiceError({ status, code, detail, mayHaveTakenEffect: code === 'outcome_unknown' });
}

/** Of an event whose request failed. */
function resultOf({ status, code, detail, mayHaveTakenEffect }: SluiceError): SendResult {
  return { status: status ?? 503, code: mayHaveTakenEffect ? 'outcome_unknown' : code, detail };
}

function shortAnswer(sent: number, answered: number): SluiceError {
  const detail = `${sent} events were sent, and ${answered} answered; is this the URL of a Sluice server?`;
  return new SluiceError({ status: 200, code: 'bad_reply', detail, mayHaveTakenEffect: true });
}

/** One request with many events, repeated for those that the server could not store at the moment. */
import { sleep } from './clock.js';
import { SluiceError } from './error.js';
import type { FieldError } from './error.js';
import type { EncodedEvent } from './event.js';
import { nextAttemptDelayMs } from './retry.js';
import type { Repeat } from './retry.js';
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

/** Stores up to 1,000 events. Resolves with a result for each, in their order. Throws a `SluiceError` when the request as a whole is refused. */
export async function sendBatch(
  transport: Transport,
  events: readonly EncodedEvent[],
  { atomic, signal }: { readonly atomic: boolean; readonly signal: AbortSignal | undefined },
): Promise<SendResult[]> {
  const { clock, retryLimits } = transport;
  const beganAt = clock.monotonic();
  const results: SendResult[] = [];
  let open = events.map((_, index) => index);
  for (let attempt = 1; ; attempt++) {
    const batch = open.flatMap((index) => events[index] ?? []);
    const answers = await request(transport, batch, atomic, signal);
    for (const [i, index] of open.entries()) {
      const event = events[index];
      const answer = answers[i];
      if (event === undefined || answer === undefined) throw shortAnswer(batch.length, answers.length);
      results[index] = settled(event, answer);
    }
    const at = { attempt, elapsedMs: clock.monotonic() - beganAt, random: clock.random() };
    const again = open.flatMap((index) => {
      const delayMs = nextAttemptDelayMs(itemError(results[index]), repeatOf(events[index]), at, retryLimits);
      return delayMs === null ? [] : [{ index, delayMs }];
    });
    if (again.length === 0) return results;
    await sleep(clock, Math.max(...again.map(({ delayMs }) => delayMs)), signal);
    open = again.map(({ index }) => index);
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

function repeatOf(event: EncodedEvent | undefined): Repeat {
  return event?.isRepeatable === true ? 'harmless' : 'doubles';
}

function itemError(result: SendResult | undefined): SluiceError {
  const { status = 0, code = '', detail = '' } = result ?? {};
  return new SluiceError({ status, code, detail, mayHaveTakenEffect: code === 'outcome_unknown' });
}

function shortAnswer(sent: number, answered: number): SluiceError {
  const detail = `${sent} events were sent, and ${answered} answered; is this the URL of a Sluice server?`;
  return new SluiceError({ status: 200, code: 'bad_reply', detail, mayHaveTakenEffect: true });
}

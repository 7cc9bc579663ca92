import { sendBatch } from './batch.js';
import type { Durability, SendResult } from './batch.js';
import { encodeEvent, withRawPayload } from './event.js';
import type { EventField, EventText, NewEvent, ReadEvent, ReadOptions } from './event.js';
import { allPages } from './pages.js';
import type { ListOptions } from './pages.js';
import { sendMany } from './send-many.js';
import type { SendManyOptions, SendSummary } from './send-many.js';
import { parsed } from './transport.js';
import type { Transport } from './transport.js';

/** The event is stored, as durably as `durability` says. */
export interface Receipt {
  readonly id: string;
  readonly type: string;
  readonly received_at: string;
  readonly durability: Durability;
  /** True if an event of this `dedup_id`, type and payload was stored before: `id` and `received_at` are its own. */
  readonly duplicate: boolean;
}

/** What became of an event for one inbox or webhook. */
export interface EventDelivery {
  /** Its name or id. */
  readonly subscription: string;
  readonly kind: 'inbox' | 'webhook';
  readonly state: 'pending' | 'leased' | 'delivered' | 'dead' | 'filtered' | 'expired' | 'skipped' | 'erased';
  readonly attempts: number | null;
  readonly last_error: string | null;
  readonly next_attempt_at: string | null;
}

export interface EventListOptions<Field extends EventField = EventField> extends ReadOptions<Field>, ListOptions {
  /** Patterns: `user.*` is `user.` and whatever follows, `*` all. */
  readonly types?: readonly string[];
  /** Received at or after this time. */
  readonly since?: string | Date;
  /** Received before this time. */
  readonly until?: string | Date;
  /** `desc`, the newest first, when absent. */
  readonly order?: 'asc' | 'desc';
}

export class Events {
  constructor(private readonly transport: Transport) {}

  /** Resolves once the event is stored. A retry stores nothing twice. Throws a `SluiceError`; a `TypeError` for a payload that is no JSON. */
  async send(event: NewEvent | EventText, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Receipt> {
    const { text, isRepeatable, hasOwnDedupId } = encodeEvent(event);
    const receipt = await this.transport.json<Receipt>({
      method: 'POST',
      path: '/v1/events',
      body: text,
      repeat: isRepeatable ? 'harmless' : 'doubles',
      signal,
    });
    // A duplicate of a random id is this very event, stored by an attempt whose answer was lost.
    return hasOwnDedupId ? { ...receipt, duplicate: false } : receipt;
  }

  /**
   * Stores 1 to 1,000 events of together 8 MiB in one request. Resolves with what became of each, in their order; what could not be stored at the
   * moment is sent again before, and if that fails as a whole, the failure is the result of those events. With `atomic` all are stored or none: then
   * a refusal is a `SluiceError` whose `problem` holds the results.
   */
  sendBatch(
    events: readonly (NewEvent | EventText)[],
    { atomic = false, signal }: { readonly atomic?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<SendResult[]> {
    return sendBatch(this.transport, events.map(encodeEvent), { atomic, signal });
  }

  /** Stores any number of events, cut into batches, from an array, a generator or a stream. `SendManyOptions` tells more. */
  sendMany(
    events: Iterable<NewEvent | EventText> | AsyncIterable<NewEvent | EventText>,
    options: SendManyOptions = {},
  ): Promise<SendSummary> {
    return sendMany(this.transport, events, options);
  }

  /** Throws a `SluiceError` of code `not_found` where there is none. */
  async get<Field extends EventField = EventField>(
    id: string,
    { fields, rawPayload = false, signal }: ReadOptions<Field> = {},
  ): Promise<ReadEvent<Field>> {
    const reply = await this.transport.request({
      method: 'GET',
      path: `/v1/events/${encodeURIComponent(id)}`,
      query: { fields: fields?.join(',') },
      repeat: 'harmless',
      signal,
    });
    const event = parsed(reply) as ReadEvent<Field>;
    return rawPayload ? withRawPayload(event, reply.text) : event;
  }

  /** What became of it, for each inbox and webhook. */
  async deliveries(id: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<readonly EventDelivery[]> {
    const path = `/v1/events/${encodeURIComponent(id)}/deliveries`;
    const call = { method: 'GET', path, repeat: 'harmless', signal } as const;
    return (await this.transport.json<{ readonly data: readonly EventDelivery[] }>(call)).data;
  }

  /** The events of the log, page after page as they are used up. */
  list<Field extends EventField = EventField>(
    options: EventListOptions<Field> = {},
  ): AsyncIterableIterator<ReadEvent<Field>> {
    const { types, since, until, order, fields } = options;
    const query = { type: types, since: timeText(since), until: timeText(until), order, fields: fields?.join(',') };
    return allPages(this.transport, '/v1/events', query, options);
  }
}

function timeText(time: string | Date | undefined): string | undefined {
  return time instanceof Date ? time.toISOString() : time;
}

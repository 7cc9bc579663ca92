import { Consumer } from './consumer.js';
import type { ConsumeOptions, Handler } from './consumer.js';
import { withRawPayloads } from './event.js';
import type { EventField, ReadEvent, ReadOptions } from './event.js';
import { inboxPath } from './inboxes.js';
import { allPages } from './pages.js';
import type { ListOptions } from './pages.js';
import type { Repeat } from './retry.js';
import { parsed } from './transport.js';
import type { Transport } from './transport.js';

/** An event under a lease. `attempt` counts how often it has been handed out, from 1. */
export type ReceivedEvent<Field extends EventField = EventField> = ReadEvent<Field> & { readonly attempt: number };

export interface Delivery<Field extends EventField = EventField> {
  /** Null when nothing was pending. */
  readonly lease_id: string | null;
  readonly lease_expires_at: string | null;
  readonly data: readonly ReceivedEvent<Field>[];
}

export interface ReceiveOptions<Field extends EventField = EventField> extends ReadOptions<Field> {
  /** Events at most, 1 to 1,000; 50 when absent. */
  readonly max?: number;
  /** Seconds to wait for an event, 0 to 30; 0 when absent. */
  readonly waitSeconds?: number;
  /** 1 to 43,200; 60 when absent. What is not acknowledged by then is handed out again. */
  readonly leaseSeconds?: number;
}

/** Ids of events, or all that a lease still holds. */
export type Target = readonly string[] | { readonly leaseId: string };

export interface Acknowledgement {
  readonly acknowledged: number;
  readonly already_acknowledged: number;
  readonly unknown: readonly string[];
}

export type EventStatus = 'pending' | 'leased' | 'dead' | 'delivered';

export type InboxEvent<Field extends EventField = EventField> = ReadEvent<Field> & {
  readonly status: EventStatus;
  /** Null once delivered. */
  readonly attempts: number | null;
};

export interface InboxListOptions<Field extends EventField = EventField> extends ReadOptions<Field>, ListOptions {
  /** What is not delivered (pending and leased) when absent. */
  readonly status?: EventStatus;
  readonly types?: readonly string[];
}

export interface InboxStats {
  readonly pending: number;
  readonly leased: number;
  readonly dead: number;
  readonly oldest_pending_seconds: number | null;
}

interface Abortable {
  readonly signal?: AbortSignal;
}

const idsMax = 1_000;

export class Inbox {
  readonly #path: string;

  constructor(
    private readonly transport: Transport,
    readonly name: string,
  ) {
    this.#path = inboxPath(name);
  }

  /** Takes pending events under a lease. A retry whose first answer was lost leaves those events until their lease ends. */
  async receive<Field extends EventField = EventField>({
    max,
    waitSeconds = 0,
    leaseSeconds,
    fields,
    rawPayload = false,
    signal,
  }: ReceiveOptions<Field> = {}): Promise<Delivery<Field>> {
    const reply = await this.transport.request({
      method: 'POST',
      path: `${this.#path}/receive`,
      query: { fields: fields?.join(',') },
      body: JSON.stringify({ max, wait_seconds: waitSeconds, lease_seconds: leaseSeconds }),
      repeat: 'harmless',
      signal,
      waitSeconds,
    });
    const delivery = parsed(reply) as Delivery<Field>;
    return rawPayload ? { ...delivery, data: withRawPayloads(delivery.data, reply.text) } : delivery;
  }

  /** Repeating it is harmless. More than 1,000 ids go in several requests. */
  async ack(target: Target, { signal }: Abortable = {}): Promise<Acknowledgement> {
    const total = { acknowledged: 0, already_acknowledged: 0, unknown: [] as string[] };
    for (const body of bodies(target)) {
      const part = await this.#post<Acknowledgement>('ack', body, signal);
      total.acknowledged += part.acknowledged;
      total.already_acknowledged += part.already_acknowledged;
      total.unknown.push(...part.unknown);
    }
    return total;
  }

  /**
   * Gives events back: pending again after `delaySeconds` (0 when absent), as another attempt. By their ids whoever holds them loses them, so a
   * request that may have been carried out is not repeated: another consumer may have them by then. By the lease it is.
   */
  async nack(
    target: Target,
    { delaySeconds, signal }: Abortable & { readonly delaySeconds?: number } = {},
  ): Promise<{ readonly released: number }> {
    let released = 0;
    for (const body of bodies(target)) {
      const part = await this.#post<{ readonly released: number }>(
        'nack',
        { ...body, delay_seconds: delaySeconds },
        signal,
        'ids' in body ? 'doubles' : 'harmless',
      );
      released += part.released;
    }
    return { released };
  }

  /** The lease ends `leaseSeconds` from now. Throws a `SluiceError` of code `lease_expired` once it has ended. */
  extend(
    leaseId: string,
    leaseSeconds: number,
    { signal }: Abortable = {},
  ): Promise<{ readonly lease_expires_at: string }> {
    return this.#post('extend', { lease_id: leaseId, lease_seconds: leaseSeconds }, signal);
  }

  /** Acknowledges one event; repeating it is harmless. Throws a `SluiceError` of code `not_found` for an unknown id. */
  async delete(eventId: string, { signal }: Abortable = {}): Promise<void> {
    const path = `${this.#path}/${encodeURIComponent(eventId)}`;
    await this.transport.request({ method: 'DELETE', path, repeat: 'harmless', signal });
  }

  stats({ signal }: Abortable = {}): Promise<InboxStats> {
    return this.transport.json({ method: 'GET', path: `${this.#path}/stats`, repeat: 'harmless', signal });
  }

  /** Looks at events, oldest first, without taking them. */
  list<Field extends EventField = EventField>(
    options: InboxListOptions<Field> = {},
  ): AsyncIterableIterator<InboxEvent<Field>> {
    const { status, types, fields } = options;
    // The path of a named inbox alone is the inbox itself, not what is in it.
    const path = this.name === 'default' ? '/v1/inbox' : `${this.#path}/events`;
    return allPages(this.transport, path, { status, type: types, fields: fields?.join(',') }, options);
  }

  /** Replays or skips: the event at `to` is the next one. `beginning`, `now`, a time, or an event's id. */
  async seek(to: string | Date, { signal }: Abortable = {}): Promise<void> {
    const body = JSON.stringify({ to: to instanceof Date ? to.toISOString() : to });
    const path = `${this.#path}/seek`;
    await this.transport.request({ method: 'POST', path, body, repeat: 'doubles', signal });
  }

  /** Makes dead letters pending again: those with these ids, or all. */
  async redrive(target: readonly string[] | 'all', { signal }: Abortable = {}): Promise<{ readonly redriven: number }> {
    let redriven = 0;
    for (const body of target === 'all' ? [{ all: true }] : bodies(target)) {
      redriven += (await this.#post<{ readonly redriven: number }>('redrive', body, signal)).redriven;
    }
    return { redriven };
  }

  /**
   * Hands events to `handler` until `signal` is aborted, then finishes what has begun, gives back what has not, and resolves. It acknowledges
   * what the handler returns from, gives back what it throws on, and extends leases meanwhile. `ConsumeOptions` tells more.
   */
  consume(handler: Handler, options: ConsumeOptions = {}): Promise<void> {
    return new Consumer(this, this.transport.clock, handler, options).run();
  }

  #post<Value>(
    action: string,
    body: object,
    signal: AbortSignal | undefined,
    repeat: Repeat = 'harmless',
  ): Promise<Value> {
    const path = `${this.#path}/${action}`;
    return this.transport.json({ method: 'POST', path, body: JSON.stringify(body), repeat, signal });
  }
}

function bodies(target: Target): readonly ({ readonly ids: readonly string[] } | { readonly lease_id: string })[] {
  if ('leaseId' in target) return [{ lease_id: target.leaseId }];
  return Array.from({ length: Math.ceil(target.length / idsMax) }, (_, i) => ({
    ids: target.slice(i * idsMax, (i + 1) * idsMax),
  }));
}

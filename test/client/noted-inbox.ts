/** An inbox that notes down what a consumer asks of it, and time that is moved by hand. */
import assert from 'node:assert/strict';
import { Consumer } from '../../src/client/consumer.js';
import type { ConsumeOptions, Handler } from '../../src/client/consumer.js';
import type { Delivery, Inbox, ReceivedEvent, SluiceError } from '../../src/client/index.js';
import { TestClock } from '../support/test-clock.js';

type ConsumedInbox = Pick<Inbox, 'receive' | 'ack' | 'nack' | 'extend'>;

export const leaseSeconds = 60;

/** A consumer under way: `stop` aborts its signal, `ended` settles with it. */
export function consume(inbox: ConsumedInbox, options: ConsumeOptions, handler: Handler) {
  const controller = new AbortController();
  const clock = new TestClock();
  const clientClock = Object.assign(clock, { random: () => 0.5 });
  const consumer = new Consumer(inbox, clientClock, handler, { leaseSeconds, ...options, signal: controller.signal });
  return { clock, ended: consumer.run(), stop: () => controller.abort() };
}

/** Lets what is ready run. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

/** Hands out events, keeps what it is asked, and fails as it is told to. */
export class NotedInbox implements ConsumedInbox {
  readonly acks: (readonly string[])[] = [];
  readonly acknowledged: string[] = [];
  readonly nacks: { readonly ids: readonly string[]; readonly delaySeconds: number }[] = [];
  readonly extensions: string[] = [];
  handedOut = 0;
  isAckStuck = false;
  unstick = (): void => {};
  wake = (): void => {};
  failReceives: SluiceError | null = null;
  failExtensions: SluiceError | null = null;
  failAcks: SluiceError | null = null;
  readonly #pending: ReceivedEvent[] = [];
  #made = 0;
  #leases = 0;

  constructor(count: number) {
    this.push(count, 1);
  }

  push(count: number, attempt: number): void {
    for (let i = 0; i < count; i++) {
      const id = `evt_${String(this.#made++).padStart(6, '0')}`;
      const none = { subject: null, occurred_at: null, attributes: null };
      this.#pending.push({ id, type: 'a.b', received_at: '', ...none, payload: null, attempt });
    }
  }

  receive = async <Field extends keyof ReceivedEvent>({
    max = 50,
    signal,
  }: { readonly max?: number; readonly signal?: AbortSignal } = {}): Promise<
    Delivery<never> & Delivery<Exclude<Field, 'attempt' | 'rawPayload'>>
  > => {
    await turns(1);
    if (this.failReceives !== null) throw this.failReceives;
    assert.ok(max >= 1, 'the server would refuse it');
    if (this.#pending.length === 0) {
      await new Promise<void>((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason as Error);
        this.wake = resolve;
        signal?.addEventListener('abort', () => reject(signal.reason as Error));
      });
    }
    const data = this.#pending.splice(0, max);
    this.handedOut += data.length;
    const lease = data.length === 0 ? null : `lse_${++this.#leases}`;
    return { lease_id: lease, lease_expires_at: null, data };
  };

  async ack(ids: Parameters<Inbox['ack']>[0]) {
    await turns(1);
    if (this.isAckStuck) await new Promise<void>((resolve) => (this.unstick = resolve));
    if (this.failAcks !== null) throw this.failAcks;
    assert.ok(!('leaseId' in ids));
    this.acks.push(ids);
    this.acknowledged.push(...ids);
    return { acknowledged: ids.length, already_acknowledged: 0, unknown: [] };
  }

  async nack(ids: Parameters<Inbox['nack']>[0], { delaySeconds = 0 }: Parameters<Inbox['nack']>[1] = {}) {
    await turns(1);
    assert.ok(!('leaseId' in ids));
    this.nacks.push({ ids, delaySeconds });
    return { released: ids.length };
  }

  async extend(leaseId: string) {
    if (this.failExtensions !== null) throw this.failExtensions;
    this.extensions.push(leaseId);
    return { lease_expires_at: '' };
  }
}

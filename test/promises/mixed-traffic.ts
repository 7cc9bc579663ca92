import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Answer, Client } from '../support/client.js';

/** A session that is waited for (5 s) and given up (15 s), and the look for what became of a commit (8 s), with some room. */
const deadlineMs = 40_000;
/** Less than they are told to wait. */
const pauseMs = 50;
const singleClients = 8;
const batchClients = 8;
const receivers = 4;
const readers = 4;
const batchEvents = 40;
const batchPadding = 'x'.repeat(4_000);
const leaseSeconds = 2;
/** For everything to be received that is not yet: leases have to end first. */
const drainMsMax = 30_000;

interface Sent {
  readonly token: string;
  readonly padding: string;
  /** The ids of every receipt. */
  readonly ids: Set<string>;
}

/** What the clients were told so far, in requests, and events acknowledged. */
export interface Told {
  readonly served: number;
  readonly refused: number;
  readonly acknowledged: number;
}

/** Clients of one org that send single events and batches, receive, acknowledge and list. Any answer but a 2xx, or a 503 that says when to come again, fails them, and so does none in time. */
export class MixedTraffic {
  readonly clients = singleClients + batchClients + receivers + readers;
  readonly #sent: Sent[] = [];
  readonly #received = new Set<string>();
  readonly #slowestMs = new Map<string, number>();
  #served = 0;
  #refused = 0;

  constructor(readonly client: Client) {}

  get told(): Told {
    const acknowledged = this.#sent.filter(({ ids }) => ids.size > 0).length;
    return { served: this.#served, refused: this.#refused, acknowledged };
  }

  /** Of each kind of request. */
  slowest(): string {
    return [...this.#slowestMs].map(([what, ms]) => `${ms.toFixed()} ms (${what})`).join(', ');
  }

  /** All of them at once, one request after the other each, for so long. Resolves when the last request has ended. */
  async run(ms: number): Promise<void> {
    const endsAtMs = performance.now() + ms;
    const repeat = async (round: () => Promise<boolean>): Promise<void> => {
      while (performance.now() < endsAtMs) if (!(await round())) await pause(pauseMs);
    };
    await Promise.all([
      ...Array.from({ length: singleClients }, () => repeat(() => this.#sendSingle())),
      ...Array.from({ length: batchClients }, () => repeat(() => this.#sendBatch())),
      ...Array.from({ length: receivers }, () => repeat(() => this.#receive(1))),
      ...Array.from({ length: readers }, () => repeat(() => this.#list())),
    ]);
  }

  /** Asks each kind until it is served, all at once. Resolves with how long each took; null for one that was not within `msMax`. */
  untilServed(msMax: number): Promise<(number | null)[]> {
    const startedAtMs = performance.now();
    const untilServed = async (round: () => Promise<boolean>): Promise<number | null> => {
      for (;;) {
        if (await round()) return performance.now() - startedAtMs;
        if (performance.now() - startedAtMs > msMax) return null;
        await pause(pauseMs);
      }
    };
    return Promise.all([
      untilServed(() => this.#sendSingle()),
      untilServed(() => this.#sendBatch()),
      untilServed(() => this.#receive(0)),
      untilServed(() => this.#list()),
    ]);
  }

  /** Sends again, as their clients would, the events without a receipt. */
  async sendUnanswered(): Promise<void> {
    const unanswered = this.#sent.filter(({ ids }) => ids.size === 0);
    while (unanswered.length > 0) {
      const some = unanswered.splice(0, batchEvents);
      assert.ok(await this.#batch(some), 'a batch was refused when all was well again');
    }
    assert.equal(this.#sent.filter(({ ids }) => ids.size === 0).length, 0, 'an event was refused in a batch');
  }

  /** What the log and the inbox say against what the clients were told, a line for each that does not agree. */
  async flaws(): Promise<string[]> {
    const flaws: string[] = [];
    const stored = new Map<string, string>();
    for (let cursor = ''; ;) {
      const { status, json, text } = await this.client.get(`/v1/events?fields=id,payload&limit=1000${cursor}`);
      assert.equal(status, 200, text);
      for (const { id, payload } of json.data) {
        if (stored.has(payload.token)) flaws.push(`${payload.token} is stored twice`);
        stored.set(payload.token, id);
      }
      if (json.next_cursor === null) break;
      cursor = `&cursor=${json.next_cursor}`;
    }
    for (const { token, ids } of this.#sent) {
      const id = stored.get(token);
      if (ids.size !== 1 || !ids.has(id ?? '')) flaws.push(`${token} was given ${[...ids].join()} and is ${id}`);
      stored.delete(token);
    }
    for (const [token, id] of stored) flaws.push(`${id}: nobody sent ${token}`);
    const giveUpAt = performance.now() + drainMsMax;
    const isMissing = ({ token }: Sent): boolean => !this.#received.has(token);
    while (this.#sent.some(isMissing) && performance.now() < giveUpAt) await this.#receive(leaseSeconds + 1, 1_000);
    for (const sent of this.#sent.filter(isMissing)) flaws.push(`${sent.token} was never received`);
    return flaws;
  }

  async #sendSingle(): Promise<boolean> {
    const sent = this.#new('');
    const { json } = (await this.#ask('POST', '/v1/events', bodyOf(sent))) ?? {};
    if (json === undefined) return false;
    sent.ids.add(json.id);
    return true;
  }

  #sendBatch(): Promise<boolean> {
    return this.#batch(Array.from({ length: batchEvents }, () => this.#new(batchPadding)));
  }

  /** Whether each of them has a receipt. */
  async #batch(events: readonly Sent[]): Promise<boolean> {
    const { json } = (await this.#ask('POST', '/v1/events/batch', events.map(bodyOf))) ?? {};
    if (json === undefined) return false;
    let isWhole = true;
    for (const [i, { status, id, code }] of json.results.entries()) {
      if (status === 201 || status === 200) events[i]?.ids.add(id);
      else if (status === 503) isWhole = false;
      else assert.fail(`an event of a batch was answered ${status} ${code}`);
    }
    return isWhole;
  }

  async #receive(waitSeconds: number, max = 100): Promise<boolean> {
    const order = { max, wait_seconds: waitSeconds, lease_seconds: leaseSeconds };
    const { json } = (await this.#ask('POST', '/v1/inbox/receive', order)) ?? {};
    if (json === undefined) return false;
    for (const { payload } of json.data) this.#received.add(payload.token);
    if (json.lease_id === null) return true;
    return (await this.#ask('POST', '/v1/inbox/ack', { lease_id: json.lease_id })) !== null;
  }

  async #list(): Promise<boolean> {
    for (const path of ['/v1/events?limit=20', '/v1/inbox?limit=20', '/v1/inbox/stats', '/v1/org']) {
      if ((await this.#ask('GET', path)) === null) return false;
    }
    return true;
  }

  #new(padding: string): Sent {
    const sent = { token: randomBytes(12).toString('hex'), padding, ids: new Set<string>() };
    this.#sent.push(sent);
    return sent;
  }

  /** Null where it was refused. */
  async #ask(method: string, path: string, body?: unknown): Promise<Answer | null> {
    const what = `${method} ${path.replace(/\?.*/, '')}`;
    const startedAtMs = performance.now();
    const elapsedMs = (): number => performance.now() - startedAtMs;
    let answer: Answer;
    try {
      answer = await this.client.call(method, path, body, {}, AbortSignal.timeout(deadlineMs));
    } catch (error) {
      throw new Error(`no answer to ${what} after ${elapsedMs().toFixed()} ms`, { cause: error });
    }
    this.#slowestMs.set(what, Math.max(this.#slowestMs.get(what) ?? 0, elapsedMs()));
    const { status, headers, text } = answer;
    if (status >= 200 && status < 300) {
      this.#served++;
      return answer;
    }
    const isRefusal = status === 503 && Number(headers.get('retry-after')) >= 1;
    assert.ok(isRefusal, `${what} was answered ${status}, Retry-After ${headers.get('retry-after')}: ${text}`);
    this.#refused++;
    return null;
  }
}

function bodyOf({ token, padding }: Sent): Record<string, unknown> {
  return { type: 'a', payload: { token, padding }, dedup_id: token };
}

import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Answer, Client } from '../support/client.js';
import type { Sending, Stored } from './ledger.js';

/** How long a client that was refused waits: less than it is told to, so that it is there when the first event is taken again. */
const pauseMs = 20;

/** Clients that send until the node is gone, and note what they were told. Any other answer than a receipt or a 503 that says when to come again fails them. */
export class Traffic {
  readonly sendings: Sending[] = [];
  #onReceipt: () => void = () => {};

  /**
   * Sends from `clients` clients at once, each one event after the other. Resolves when all have ended: because they get no answer any more,
   * or after `stop`.
   */
  async sendUntilGone(client: Client, clients: number, stop?: AbortSignal): Promise<void> {
    const sendAll = async (first: number): Promise<void> => {
      for (let number = first; ; number++) {
        if (stop?.aborted === true) return;
        const sending = newSending(number % 2 === 0);
        this.sendings.push(sending);
        // Now and then a client that is too impatient to wait for its answer.
        const copies = sending.dedupId !== null && randomInt(10) === 0 ? 2 : 1;
        const alive = await Promise.all(Array.from({ length: copies }, () => send(client, sending)));
        if (sending.receipts.length > 0) this.#onReceipt();
        if (alive.includes(false)) return;
        if (sending.receipts.length === 0) await pause(pauseMs);
      }
    };
    await Promise.all(Array.from({ length: clients }, (_, i) => sendAll(i)));
  }

  /** Sends one event after the other until one is taken. Resolves with the time that took, or with null after `msMax`. */
  async sendUntilTaken(client: Client, msMax: number): Promise<number | null> {
    const startedAtMs = performance.now();
    for (;;) {
      const sending = newSending(true);
      this.sendings.push(sending);
      await send(client, sending);
      const tookMs = performance.now() - startedAtMs;
      if (sending.receipts.length > 0) return tookMs;
      if (tookMs > msMax) return null;
      await pause(pauseMs);
    }
  }

  /** Resolves when `count` more receipts have come. */
  receipts(count: number): Promise<void> {
    let left = count;
    return new Promise((resolve) => {
      this.#onReceipt = () => {
        if (--left === 0) resolve();
      };
    });
  }

  /** Sends again what has a dedup id and got no answer, as a client would; each must be answered now. */
  async retryUnanswered(client: Client): Promise<void> {
    await eachOf(this.sendings, async (sending) => {
      if (sending.receipts.length > 0 || sending.dedupId === null) return;
      if (!(await send(client, sending)) || sending.receipts.length === 0) {
        throw new Error(`${sending.token} got no receipt from a node that is ready`);
      }
    });
  }
}

/** Sends once more what was acknowledged under a dedup id. Each must be a 200 with the first id; the lines say which was not. */
export async function repeatAcknowledged(client: Client, sendings: readonly Sending[]): Promise<string[]> {
  const wrong: string[] = [];
  await eachOf(sendings, async (sending) => {
    const [first] = sending.receipts;
    if (first === undefined || sending.dedupId === null) return;
    const { status, json } = await post(client, sending);
    const same = status === 200 && json.duplicate === true && json.id === first.id;
    if (!same || json.received_at !== first.receivedAt) wrong.push(`${sending.token} sent again: ${status} ${json.id}`);
  });
  return wrong;
}

/** Reads each acknowledged event by its id. The lines say which did not come back as it was sent. */
export async function readAcknowledged(client: Client, sendings: readonly Sending[]): Promise<string[]> {
  const wrong: string[] = [];
  await eachOf(sendings, async ({ token, payload, receipts: [receipt] }) => {
    if (receipt === undefined) return;
    const { status, text } = await client.get(`/v1/events/${receipt.id}`);
    const whole = text.endsWith(`"payload":${payload}}`) && text.includes(`"received_at":"${receipt.receivedAt}"`);
    if (status !== 200 || !whole) wrong.push(`${token} as ${receipt.id}: ${status} ${text.slice(0, 300)}`);
  });
  return wrong;
}

/** Everything in the inbox, page by page. */
export async function walkInbox(client: Client): Promise<Stored[]> {
  const stored: Stored[] = [];
  let cursor = '';
  do {
    const { status, text, json } = await client.get(`/v1/inbox?limit=1000&fields=id,payload${cursor}`);
    if (status !== 200) throw new Error(`the inbox cannot be read: ${status} ${text}`);
    // The payloads' own bytes, which a JSON parser would not keep.
    const events = [...text.matchAll(/"id":"(evt_\w+)","payload":(\{ "token": "(\w+)"[^}]*\})/g)];
    if (events.length !== json.data.length) throw new Error(`a payload is not of the form that was sent: ${text}`);
    for (const [, id = '', payload = '', token = ''] of events) stored.push({ id, payload, token });
    cursor = json.next_cursor === null ? '' : `&cursor=${json.next_cursor}`;
  } while (cursor !== '');
  return stored;
}

function newSending(wantsDedupId: boolean): Sending {
  const token = randomBytes(12).toString('hex');
  // Most are small; some cross the pages of the log and of the table.
  const padding = '.'.repeat(randomInt(20) === 0 ? randomInt(30_000) : randomInt(200));
  const payload = `{ "token": "${token}",\t"n":1.50e+1 , "big":12345678901234567890,"padding":"${padding}\\u00e9é" }`;
  return { token, payload, dedupId: wantsDedupId ? `id ${token}` : null, receipts: [], unknown: false };
}

/** What a client of a node that was killed sees: its connection is reset, closed, or refused. */
const cutCodes = new Set(['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'UND_ERR_SOCKET']);

function isCut(error: unknown): boolean {
  const { code } = (error instanceof TypeError ? (error.cause ?? {}) : {}) as { code?: unknown };
  return typeof code === 'string' && cutCodes.has(code);
}

/** False if the node did not answer. */
async function send(client: Client, sending: Sending): Promise<boolean> {
  let answer: Answer;
  try {
    answer = await post(client, sending);
  } catch (error) {
    if (!isCut(error)) throw error;
    sending.unknown = true;
    return false;
  }
  const { status, json, text, headers } = answer;
  if (status === 201 || status === 200) {
    sending.receipts.push({ status, id: json.id, receivedAt: json.received_at, durability: json.durability });
  } else if (status !== 503 || !(Number(headers.get('retry-after')) >= 1)) {
    throw new Error(`${sending.token} was answered ${status}, Retry-After ${headers.get('retry-after')}: ${text}`);
  } else if (json?.code === 'outcome_unknown') {
    sending.unknown = true;
  }
  return true;
}

function post(client: Client, { payload, dedupId }: Sending): Promise<Answer> {
  const dedup = dedupId === null ? '' : `,"dedup_id":${JSON.stringify(dedupId)}`;
  return client.post('/v1/events', `{"type":"test.event","payload":${payload}${dedup}}`);
}

async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

import { setTimeout as pause } from 'node:timers/promises';
import { assertDocumented } from './documented.js';
import { adminToken } from './node.js';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON; undefined where there is none. Numbers as JavaScript reads them: compare payloads in `text`. */
  // Tests read many shapes; a wrong guess fails their assertions.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly json: any;
}

/** A client of one node with one credential. A body that is a string or bytes is sent as it is. A reply that is not documented is a failure. */
export class Client {
  constructor(
    readonly address: string,
    readonly credential: string | null,
  ) {}

  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Answer> {
    const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
    const response = await fetch(this.address + path, {
      method,
      headers: {
        ...(this.credential === null ? {} : { Authorization: `Bearer ${this.credential}` }),
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: raw ? (body as NonNullable<RequestInit['body']>) : JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
    const text = await response.text();
    const sent = Object.keys(headers).length === 0 ? body : undefined;
    assertDocumented(method, path, { status: response.status, headers: response.headers, text }, sent);
    const isJson = /json/.test(response.headers.get('content-type') ?? '');
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: isJson && text !== '' ? JSON.parse(text) : undefined,
    };
  }

  get(path: string, headers?: Record<string, string>): Promise<Answer> {
    return this.call('GET', path, undefined, headers);
  }

  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> {
    return this.call('POST', path, body, headers);
  }
}

/** Asks until the server has room: on a slow machine many at once may be too many. */
export async function whenThereIsRoom(ask: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await ask();
    if (answer.status !== 503 || answer.json?.code !== 'overloaded') return answer;
    await pause(1000 * Number(answer.json.retry_after));
  }
}

export interface TestOrg {
  readonly id: string;
  readonly key: string;
  readonly keyId: string;
  readonly client: Client;
}

/** A new org and a client with its first key, which has all scopes. */
export async function createOrg(address: string, tier = 'enterprise', name = 'test'): Promise<TestOrg> {
  const { status, json, text } = await new Client(address, adminToken).post('/v1/orgs', { name, tier });
  if (status !== 201) throw new Error(`the org was not created: ${status} ${text}`);
  return { id: json.id, key: json.key, keyId: json.key_id, client: new Client(address, json.key) };
}

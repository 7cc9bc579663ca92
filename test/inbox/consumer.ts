import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from '../support/client.js';
import type { Answer } from '../support/client.js';
import { adminToken } from '../support/node.js';

/** Sends events one by one, in order. Returns their ids. */
export async function send(client: Client, events: readonly { type?: string; payload?: unknown }[]): Promise<string[]> {
  const ids: string[] = [];
  for (const { type = 'test', payload = {} } of events) {
    const { status, json, text } = await client.post('/v1/events', { type, payload });
    assert.equal(status, 201, text);
    ids.push(json.id);
  }
  return ids;
}

export async function receive(client: Client, options: Record<string, number> = {}, query = ''): Promise<Answer> {
  const answer = await client.post(`/v1/inbox/receive${query}`, options);
  assert.equal(answer.status, 200, answer.text);
  return answer;
}

export async function ack(client: Client, body: { ids: readonly string[] } | { lease_id: string }) {
  const { status, json, text } = await client.post('/v1/inbox/ack', body);
  assert.equal(status, 200, text);
  return json as { acknowledged: number; already_acknowledged: number; unknown: string[] };
}

export async function stats(client: Client) {
  const { status, json, text } = await client.get('/v1/inbox/stats');
  assert.equal(status, 200, text);
  return json as { pending: number; leased: number; dead: number; oldest_pending_seconds: number | null };
}

/** Walks every page of `GET /v1/inbox`. */
export async function listAll(client: Client, query: Record<string, string> = {}) {
  // oxlint-disable-next-line typescript/no-explicit-any
  const data: any[] = [];
  let [cursor, pages] = ['', 0];
  do {
    const search = new URLSearchParams({ ...query, ...(cursor !== '' && { cursor }) });
    const { status, json, text } = await client.get(`/v1/inbox?${search.toString()}`);
    assert.equal(status, 200, text);
    data.push(...json.data);
    cursor = json.next_cursor ?? '';
    pages++;
  } while (cursor !== '');
  return { data, pages };
}

/** Resolves when exactly this many receivers wait on a node, as its own metrics say; rejects after a minute. */
export async function untilWaiting(address: string, count: number): Promise<void> {
  const admin = new Client(address, adminToken);
  const giveUpAtMs = performance.now() + 60_000;
  while (performance.now() < giveUpAtMs) {
    const { text } = await admin.get('/metrics');
    if (new RegExp(`^sluice_inbox_waiters ${count}$`, 'm').test(text)) return;
    await pause(5);
  }
  throw new Error(`there were never ${count} receivers that wait at ${address}`);
}

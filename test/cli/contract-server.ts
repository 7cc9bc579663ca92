/**
 * As much of the API as `send --file`, `tail`, `inboxes` and `smoke` with a key need, in memory. It stands in for routes that the server may not
 * have yet; its address and key can be those of a node instead.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';

interface Stored {
  readonly id: string;
  readonly type: string;
  readonly payload: string;
  readonly received_at: string;
  readonly dedupId: string | undefined;
}

export interface ContractServer {
  readonly address: string;
  readonly key: string;
  readonly events: readonly Stored[];
  readonly inboxNames: () => readonly string[];
  /** Sizes of the batches that came. */
  readonly batches: readonly number[];
}

const receivedAt = '2026-11-22T10:00:00.000Z';

/** Ends with the test. */
export async function startContractServer(t: TestContext): Promise<ContractServer> {
  const key = `slk_live_${'c'.repeat(43)}`;
  const events: Stored[] = [];
  const batches: number[] = [];
  const inboxes = new Map<string, { readonly types: readonly string[] | null; from: number }>();

  const store = (event: Record<string, unknown>, rawPayload: string): [status: number, body: object] => {
    if (typeof event['type'] !== 'string' || event['type'].includes(' ')) {
      return [422, { status: 422, code: 'validation_failed', detail: '/type: is required' }];
    }
    const dedupId = event['dedup_id'] as string | undefined;
    const found = dedupId === undefined ? undefined : events.find((stored) => stored.dedupId === dedupId);
    const stored = found ?? {
      id: `evt_${String(events.length).padStart(28, '0')}`,
      type: event['type'],
      payload: rawPayload,
      received_at: receivedAt,
      dedupId,
    };
    if (found === undefined) events.push(stored);
    const { id, type, received_at } = stored;
    const status = found === undefined ? 201 : 200;
    return [status, { status, id, type, received_at, durability: 'fsync', duplicate: found !== undefined }];
  };

  const render = ({ id, type, payload, received_at }: Stored, extra = ''): string =>
    `{"id":"${id}","type":"${type}","subject":null,"occurred_at":null,"received_at":"${received_at}","attributes":null,"payload":${payload}${extra}}`;

  const answer = (method: string, url: URL, body: string): [status: number, body: string | object] => {
    const route = `${method} ${url.pathname}`;
    const named = /^\w+ \/v1\/inboxes\/(\w+)(?:\/(\w+))?$/.exec(route);
    const inbox = inboxes.get(named?.[1] ?? '');
    if (route === 'GET /readyz') return [200, { status: 'ready' }];
    if (route === 'GET /v1/org') return [200, { id: 'org_1', name: 'contract' }];
    if (route === 'POST /v1/events') return store(JSON.parse(body), payloadOf(body));
    if (route === 'POST /v1/events/batch') {
      const items = JSON.parse(body) as Record<string, unknown>[];
      batches.push(items.length);
      const results = items.map((item) => store(item, JSON.stringify(item['payload']))[1]);
      return [200, { accepted: 0, duplicates: 0, rejected: 0, results }];
    }
    if (route === 'GET /v1/events') {
      const from = Number(url.searchParams.get('cursor') ?? 0);
      const patterns = url.searchParams.getAll('type').map((pattern) => pattern.replace(/\*$/, ''));
      const ordered = url.searchParams.get('order') === 'asc' ? events : events.toReversed();
      const page = ordered.slice(from, from + Number(url.searchParams.get('limit') ?? 50));
      const data = page.filter(({ type }) => patterns.length === 0 || patterns.some((start) => type.startsWith(start)));
      const next = from + page.length < events.length ? `"${from + page.length}"` : 'null';
      return [200, `{"data":[${data.map((event) => render(event)).join(',')}],"next_cursor":${next}}`];
    }
    if (route === 'POST /v1/inboxes') {
      const { name, types = null } = JSON.parse(body) as { name: string; types?: string[] };
      inboxes.set(name, { types, from: events.length });
      return [201, { name, types, max_attempts: 10 }];
    }
    if (route === 'GET /v1/inboxes') {
      const data = [...inboxes].map(([name, { types }]) => ({ name, types, max_attempts: 10 }));
      return [200, { data, next_cursor: null }];
    }
    if (inbox !== undefined && method === 'DELETE') {
      inboxes.delete(named?.[1] ?? '');
      return [204, ''];
    }
    if (inbox !== undefined && named?.[2] === 'receive') {
      const data = events.slice(inbox.from).filter(({ type }) => inbox.types?.includes(type) ?? true);
      inbox.from = events.length;
      const shown = data.map((event) => render(event, ',"attempt":1')).join(',');
      return [200, `{"lease_id":"lse_${data.length}","lease_expires_at":"${receivedAt}","data":[${shown}]}`];
    }
    if (inbox !== undefined && named?.[2] === 'ack') {
      return [200, { acknowledged: 1, already_acknowledged: 0, unknown: [] }];
    }
    return [404, { code: 'not_found', detail: 'There is no such path.' }];
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(request);
    const [status, reply] = isAllowed(request, key)
      ? answer(request.method ?? '', new URL(request.url ?? '', 'http://a'), body)
      : [401, { code: 'invalid_key', detail: 'Unknown key.' }];
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(typeof reply === 'string' ? reply : JSON.stringify(reply));
  };
  const server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { address, key, events, batches, inboxNames: () => [...inboxes.keys()] };
}

function isAllowed(request: IncomingMessage, key: string): boolean {
  return request.url === '/readyz' || request.headers.authorization === `Bearer ${key}`;
}

/** The payload is what the client puts last. */
function payloadOf(body: string): string {
  return body.slice(body.indexOf('"payload":') + '"payload":'.length, -1);
}

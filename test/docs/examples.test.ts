import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Example } from '../../src/http/openapi/example.js';
import { replyTypeOf } from '../../src/http/openapi/example.js';
import { examples } from '../../src/http/openapi/examples.js';
import { ajv, builtDocument, locate } from '../support/documented.js';
import type { Operation } from '../support/documented.js';
import { Client } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { adminToken } from '../support/node.js';

const document = builtDocument();
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    path,
    method: method.toUpperCase(),
    operation: operation as Operation,
  })),
);

test('every operation that answers with JSON or nothing has an example, and every example an operation', () => {
  const shown = new Set(examples.map(({ operation }) => operation));
  const wanted = operations
    .map(({ operation }) => operation.operationId)
    .filter((id) => !['readMetrics', 'readErrorsPage', 'readDocument', 'readDocumentPage'].includes(id));
  assert.deepEqual([...shown].toSorted(), wanted.toSorted());
});

test('every body that an example of a success sends is what its schema takes', () => {
  for (const { operation, request, reply } of examples) {
    if (request.body === undefined || reply.status >= 400 || typeof request.body === 'string') continue;
    const content = operations.find((row) => row.operation.operationId === operation)?.operation.requestBody?.content;
    const schema = content?.[request.mediaType ?? 'application/json']?.schema;
    // Of this batch one event is bad, which is what it shows.
    if (
      operation === 'sendEvents' &&
      reply.status === 200 &&
      schema?.['type'] === 'array' &&
      request.mediaType === undefined
    )
      continue;
    const validate = ajv.compile({ ...schema, components: document.components });
    assert.ok(validate(request.body), `${operation}: ${ajv.errorsText(validate.errors)}`);
  }
});

await onEachEngine({}, ({ node }) => {
  test('every example is what the server says to its request', async () => {
    const { address } = node();
    await removeFirstOrg(new Client(address, adminToken));
    const real = new Map<string, string>();
    let key = '';
    for (const example of examples) {
      const request = translated(example.request, real);
      let reply = await send(address, { ...example, request }, key);
      // The certificate is there when the work is done.
      while (example.operation === 'readErasure' && isRunning(reply))
        reply = await send(address, { ...example, request }, key);
      assert.equal(reply.status, example.reply.status, `${example.operation}, ${example.name}: ${reply.text}`);
      assert.equal(reply.mediaType, example.reply.body === undefined ? undefined : replyTypeOf(example));
      learn(example.reply.body, reply.body, real);
      assert.deepEqual(settled(reply.body), settled(example.reply.body), `${example.operation}, ${example.name}`);
      if (example.operation === 'createOrganisation') key = (reply.body as { key: string }).key;
    }
    assert.ok(real.size > 10);
  });
});

const isRunning = ({ body }: Seen): boolean => (body as { status?: unknown }).status === 'running';

interface Seen {
  readonly status: number;
  readonly mediaType: string | undefined;
  readonly text: string;
  /** JSON where it is; undefined where there is none. */
  readonly body: unknown;
}

async function send(address: string, { operation, request }: Example, key: string): Promise<Seen> {
  const { method, path, operation: row } = locate(operation);
  const place = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => request.params?.[name] ?? '');
  const query = request.query === undefined ? '' : `?${String(new URLSearchParams(request.query))}`;
  const [scheme] = row.security;
  const credential = scheme === undefined ? null : 'adminToken' in scheme ? adminToken : key;
  const headers = { ...(request.mediaType !== undefined && { 'Content-Type': request.mediaType }), ...request.headers };
  if (operation === 'streamEvents')
    return firstOfStream(address + place + query, { ...headers, Authorization: `Bearer ${credential}` });
  const {
    status,
    headers: got,
    text,
    json,
  } = await new Client(address, credential).call(method, place + query, request.body, headers);
  const mediaType = got.get('content-type')?.split(';', 1)[0];
  return { status, mediaType, text, body: text === '' ? undefined : (json ?? text) };
}

/** A stream has no end: what it holds at first. */
async function firstOfStream(url: string, headers: Record<string, string>): Promise<Seen> {
  const abort = new AbortController();
  const response = await fetch(url, { headers, signal: abort.signal });
  const reader = response.body?.getReader();
  let text = '';
  while (!text.endsWith('\n\n')) text += Buffer.from((await reader?.read())?.value ?? []).toString();
  abort.abort();
  return { status: response.status, mediaType: response.headers.get('content-type') ?? undefined, text, body: text };
}

/** The embedded engine makes an org at its first start. */
async function removeFirstOrg(admin: Client): Promise<void> {
  for (const { id } of (await admin.get('/v1/orgs')).json.data) await admin.call('DELETE', `/v1/orgs/${id}`);
}

/** Ids, which a run makes anew, and what is made of them. */
const made = /\b(?:evt|org|key|lse|ers)_[0-9A-HJKMNP-TV-Z]+/g;

/** Remembers which id of this run stands for which of the example. */
function learn(shown: unknown, seen: unknown, real: Map<string, string>): void {
  const [here, there] = [shown, seen].map((value) =>
    Array.from((JSON.stringify(value) ?? '').matchAll(made), ([id]) => id),
  );
  for (const [i, id] of here?.entries() ?? []) if (there?.[i] !== undefined) real.set(id, there[i]);
}

function translated(request: Example['request'], real: ReadonlyMap<string, string>): Example['request'] {
  return JSON.parse(JSON.stringify(request).replaceAll(made, (id) => real.get(id) ?? id)) as Example['request'];
}

/** A reply without what is another in each run: ids, times, secrets, hashes, cursors. That each is there, and of its form, stays. */
function settled(value: unknown, name = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => settled(item));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([member, inner]) => [member, settled(inner, member)]));
  }
  if (name === 'next_cursor' || name === 'request_id' || name === 'prefix') return typeof value;
  // Whether a key's use is written down yet, and how many seconds an event is old, is chance.
  if (name === 'last_used_at' || name === 'oldest_pending_seconds') return name;
  if (typeof value !== 'string') return value;
  return value
    .replaceAll(made, (id) => `${id.slice(0, 4)}${id.length}`)
    .replaceAll(/slk_live_[A-Za-z0-9_-]{43}/g, 'secret')
    .replaceAll(/\b[0-9a-f]{64}\b/g, 'hash')
    .replaceAll(/^\d{4}-\d\d-\d\d$/g, 'day')
    .replaceAll(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'time');
}

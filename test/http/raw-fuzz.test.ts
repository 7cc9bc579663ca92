/**
 * Every route, asked with bytes that a client gets wrong on purpose or by accident: flipped, cut, doubled, in pieces, with headers that contradict
 * each other, with bodies that unpack to far more. Whatever comes, each answer is a whole one, never a 5xx, and a refusal is a problem.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import type { RunningServer } from '../../src/app.js';
import { routeTable } from '../../src/http/routes/table.js';
import type { RouteTableOptions } from '../../src/http/routes/table.js';
import { createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { adminToken, startNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { parseReplies } from '../support/raw-http.js';
import type { RawReply } from '../support/raw-http.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const requests = isSoak ? 20_000 : 2_000;
const inFlightMax = 32;
/** A client that says it has no more to send is not answered any more, so it says so when nothing came for this long. */
const silenceMs = 300;
/** A connection that is still open this long after its end was sent hangs. */
const closedMsMax = 30_000;
const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);

// Its answer goes on until the client leaves.
const routes = routeTable({} as RouteTableOptions).filter(({ path }) => !path.includes('stream'));

/** What a template holds in place of a key, which no generator knows. */
const orgKey = '{key}';
const adminKey = '{admin}';

const parameter = fc.oneof(
  fc.constantFrom(
    'default',
    'some',
    'evt_0',
    `evt_${'0'.repeat(31)}`,
    'org_1',
    'key_1',
    '..',
    '%00',
    '%2e%2e',
    '%',
    'é',
  ),
  fc.string({ maxLength: 300 }),
);
const query = fc.oneof(
  { weight: 5, arbitrary: fc.constant('') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('?limit=1', '?limit=-1', '?cursor=AAAA', '?fields=id', '?atomic=true', '?x=%zz', '?&&='),
  },
);

const bombs = [gzipSync(Buffer.alloc(50_000_000)), gzipSync(`{"type":"a","payload":"${'x'.repeat(4_000_000)}"}`)];
const body = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('{}', '{"type":"a","payload":1}', '[{"type":"a","payload":{}}]', '{"max":2}'),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      '{"ids":["evt_0"]}',
      '{"name":"some"}',
      '{"to":"now"}',
      '{"all":true}',
      '{"lease_id":"x"}',
    ),
  },
  { weight: 2, arbitrary: fc.json() },
  { weight: 1, arbitrary: fc.string({ maxLength: 2_000 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(' '.repeat(400_000), '['.repeat(300_000), `{"type":"${'a'.repeat(300_000)}"}`),
  },
);

/** Lines of a head that ask for something else, or contradict the others. */
const oddHeader = fc.oneof(
  fc.constantFrom(
    'Content-Length: 0',
    'Content-Length: 5',
    'Content-Length: 99999999999999999999',
    'Content-Length: -1',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip, chunked',
    'Content-Encoding: gzip',
    'Content-Encoding: br',
    'Content-Type: application/x-ndjson',
    'Content-Type: application/cloudevents+json',
    'Content-Type: text/plain; charset=utf-7',
    'Expect: 100-continue',
    'Upgrade: websocket\r\nConnection: Upgrade',
    'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings',
    'Range: bytes=0-',
    'If-None-Match: *',
    'Idempotency-Key: ',
    'Accept: text/event-stream;q=0',
    'Host: other',
    'X-API-Key: slk_wrong',
    'ce-specversion: 1.0\r\nce-id: 1\r\nce-source: a\r\nce-type: a',
    'traceparent: 00-00000000000000000000000000000000-0000000000000000-00',
  ),
  fc.string({ maxLength: 40 }).map((text) => `X-Odd: ${text.replaceAll(/[\r\n]/g, '')}`),
  fc.integer({ min: 1, max: 20_000 }).map((length) => `X-Long: ${'x'.repeat(length)}`),
);

const change = fc.record({
  at: fc.nat(),
  kind: fc.constantFrom('flip', 'insert', 'delete', 'double', 'cut'),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
});

const fuzzed = fc.record({
  route: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...routes) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(...routes.filter(({ path, method }) => path === '/v1/events' && method === 'POST')),
    },
  ),
  parameter,
  query,
  body: fc.oneof(
    { weight: 12, arbitrary: body.map((text) => ({ bytes: Buffer.from(text), headers: [] as string[] })) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(...bombs).map((bytes) => ({ bytes, headers: ['Content-Encoding: gzip'] })),
    },
  ),
  headers: fc.array(oddHeader, { maxLength: 2 }),
  isChunked: fc.boolean(),
  changes: fc.oneof(fc.constant([]), fc.array(change, { minLength: 1, maxLength: 4 })),
  pieces: fc.array(fc.nat(), { maxLength: 4 }),
  repeats: fc.constantFrom(1, 1, 1, 2, 5),
});
type Fuzzed = typeof fuzzed extends fc.Arbitrary<infer Value> ? Value : never;

function bytesOf(given: Fuzzed, key: string): Buffer {
  const { route, isChunked } = given;
  const path = route.path.replaceAll(/:[a-z]+/g, () => encodePath(given.parameter)) + given.query;
  // No request is to end an org that the others go on with.
  const credential = route.path.startsWith('/v1/orgs') ? adminKey : orgKey;
  const { bytes, headers } = given.body;
  const framing = isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${bytes.length}`;
  const head = [
    `${route.method} ${path} HTTP/1.1`,
    'Host: sluice.test',
    ...(given.repeats === 1 ? ['Connection: close'] : []),
    `Authorization: Bearer ${credential === adminKey ? adminToken : key}`,
    'Content-Type: application/json',
    framing,
    ...headers,
    ...given.headers,
  ];
  const chunk = Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
  const content = isChunked
    ? Buffer.concat([bytes.length > 0 ? chunk : Buffer.alloc(0), Buffer.from('0\r\n\r\n')])
    : bytes;
  const one = Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1'), content]);
  let all: Buffer = Buffer.concat(Array.from({ length: given.repeats }, () => one));
  for (const { at, kind, bytes: other } of given.changes)
    all = changed(all, at % (all.length + 1), kind, Buffer.from(other));
  return all;
}

function changed(all: Buffer, at: number, kind: string, bytes: Buffer): Buffer {
  const [before_, behind] = [all.subarray(0, at), all.subarray(at)];
  switch (kind) {
    case 'flip':
      return Buffer.concat([before_, bytes, behind.subarray(bytes.length)]);
    case 'insert':
      return Buffer.concat([before_, bytes, behind]);
    case 'delete':
      return Buffer.concat([before_, behind.subarray(bytes.length)]);
    case 'double':
      return Buffer.concat([before_, behind.subarray(0, 50), behind]);
    default:
      return before_;
  }
}

/** A space or a line's end would make another request of it: that is left to the changed bytes. */
function encodePath(text: string): string {
  return text.replaceAll(/[^!-~]|[?#]/g, (character) => encodeURIComponent(character.toWellFormed()));
}

/** Sends bytes in pieces, then the end, and resolves with all that came until the server closed. */
function converse(address: string, bytes: Buffer, cuts: readonly number[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(address);
    const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    const received: Buffer[] = [];
    socket.setTimeout(closedMsMax, () => {
      reject(new Error(`still open after ${Buffer.concat(received).toString().slice(0, 500)}`));
      socket.destroy();
    });
    socket.on('data', (data) => received.push(data));
    socket.on('end', () => socket.destroy());
    const endLater = setTimeout(() => socket.end(), silenceMs);
    socket.on('data', () => endLater.refresh());
    // A refusal closes before all was sent: what came before is the answer.
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(endLater);
      resolve(Buffer.concat(received));
    });
    const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b);
    void (async () => {
      let from = 0;
      for (const end of ends) {
        if (socket.destroyed) return;
        socket.write(bytes.subarray(from, end));
        from = end;
        endLater.refresh();
        if (end < bytes.length) await pause(2);
      }
    })();
  });
}

let storage: TestStorage;
let node: RunningServer;
let org: TestOrg;

before(async () => {
  const created = await createStorage('embedded');
  assert.ok(created);
  storage = created;
  node = await startNode(storage);
  org = await createOrg(node.address);
});
after(async () => {
  await node.stop();
  await storage.remove();
});

function assertWhole({ status, headers, text, isWhole }: RawReply): void {
  // Of a long answer to what was still being sent, the end of the connection cuts the rest.
  assert.ok(isWhole || (status === 200 && text.length > 4_096), `a part of a reply: ${status} ${text.slice(0, 300)}`);
  if (status === 100) return;
  assert.ok(status >= 200 && status < 500, `${status} ${text.slice(0, 500)}`);
  // The answer to a HEAD has no body to look at.
  if (status >= 400 && text !== '') assertProblem({ status, headers, text }, undefined, ['results']);
}

test(`no bytes of ${requests} conversations do harm`, async (t) => {
  const seen = new Map<number, number>();
  let silent = 0;
  const left = fc.sample(fuzzed, { numRuns: requests, seed }).entries();
  const worker = async (): Promise<void> => {
    for (const [i, given] of left) {
      const bytes = bytesOf(given, org.key);
      try {
        const replies = parseReplies(await converse(node.address, bytes, given.pieces));
        for (const reply of replies) {
          assertWhole(reply);
          seen.set(reply.status, (seen.get(reply.status) ?? 0) + 1);
        }
        if (replies.length === 0) silent++;
      } catch (error) {
        const shown = bytes.toString('latin1').slice(0, 1_500);
        throw new Error(`conversation ${i} of SLUICE_TEST_SEED=${seed}: ${JSON.stringify(shown)}`, { cause: error });
      }
    }
  };
  await Promise.all(Array.from({ length: inFlightMax }, worker));
  t.diagnostic(
    `seed ${seed}: ${Array.from(seen, ([status, count]) => `${status} × ${count}`).join(', ')}, silent ${silent}`,
  );
  // Otherwise the generator would show little.
  for (const status of [200, 201, 400, 401, 404, 413, 415, 422, 431]) assert.ok(seen.has(status), `no ${status}`);
  const answer = await org.client.post('/v1/events', { type: 'a', payload: 1 });
  assert.equal(answer.status, 201, answer.text);
  assert.equal((await fetch(`${node.address}/readyz`)).status, 200);
});

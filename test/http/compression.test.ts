import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import type { Clock } from '../../src/clock.js';
import { preferredCoding } from '../../src/http/accept-encoding.js';
import {
  busyLoadMin,
  Compression,
  compressedBytesMin,
  compressingMax,
  eventLoopLoad,
} from '../../src/http/compression.js';
import type { Reply } from '../../src/http/route.js';
import type { RouteTableOptions } from '../../src/http/routes/table.js';
import { routeTable } from '../../src/http/routes/table.js';
import { createTelemetry } from '../../src/telemetry.js';
import { createOrg } from '../support/client.js';
import { builtDocument } from '../support/documented.js';
import { onEachEngine } from '../support/each-engine.js';
import { adminToken } from '../support/node.js';

const decoded: Readonly<Record<string, (body: Buffer) => Buffer>> = {
  br: brotliDecompressSync,
  gzip: gunzipSync,
  identity: (body) => body,
};
const either = 'br, gzip';
const large: Reply = { status: 200, body: JSON.stringify('a word '.repeat(1_000)) };

test('of the codings that a client takes the one it likes best is chosen, the plain reply where it likes that better', () => {
  const cases: Readonly<Record<string, string | null>> = {
    br: 'br',
    gzip: 'gzip',
    'gzip, deflate, br': 'br',
    'GZIP ; Q=0.5': 'gzip',
    'br;q=0.5, gzip;q=0.8': 'gzip',
    'br;q=0, gzip;q=0.001': 'gzip',
    '*': 'br',
    'br;q=0, *': 'gzip',
    'gzip, *;q=0': 'gzip',
    '*;q=0': null,
    '': null,
    deflate: null,
    zstd: null,
    identity: null,
    'identity;q=0': null,
    'identity;q=0, gzip': 'gzip',
    'identity;q=0, *': 'br',
    'identity;q=0.5, gzip;q=0.4': null,
    'identity, gzip': 'gzip',
    'identity, *;q=0.5': null,
    'gzip;q=0': null,
    'gzip;q=2': null,
    'gzip;q=x': null,
  };
  for (const [header, expected] of Object.entries(cases)) assert.equal(preferredCoding(header), expected, header);
  assert.equal(preferredCoding(undefined), null);
});

function compressing(load: () => number = () => 0) {
  const telemetry = createTelemetry();
  const compression = new Compression({ telemetry, load });
  const reasons = async (): Promise<unknown[]> => {
    const { values } = await telemetry.plainReplies.get();
    return values.map(({ labels, value }) => [labels.reason, value]);
  };
  return { compression, reasons };
}

test('a reply goes out as it is while the event loop has been busy, and compressed again after', async () => {
  let load = busyLoadMin;
  const { compression, reasons } = compressing(() => load);
  const busy = await compression.apply(large, {}, either);
  assert.equal(busy.body, large.body);
  assert.deepEqual(busy.headers, { Vary: 'Accept-Encoding' });
  load = busyLoadMin - 0.01;
  assert.equal((await compression.apply(large, {}, either)).headers?.['Content-Encoding'], 'br');
  assert.deepEqual(await reasons(), [['busy', 1]]);
});

test('no more replies are compressed at once than allowed, and the next ones do not wait', async () => {
  const { compression, reasons } = compressing();
  const replies = await Promise.all(
    Array.from({ length: compressingMax + 3 }, () => compression.apply(large, {}, either)),
  );
  const codings = replies.map(({ headers }) => headers?.['Content-Encoding']);
  assert.equal(codings.filter((coding) => coding === 'br').length, compressingMax);
  assert.deepEqual(await reasons(), [['full', 3]]);
  assert.equal((await compression.apply(large, {}, 'gzip')).headers?.['Content-Encoding'], 'gzip');
});

test('what shows a secret, and what would not be smaller, goes out as it is', async () => {
  const { compression, reasons } = compressing();
  assert.equal((await compression.apply(large, { showsSecret: true }, either)).body, large.body);
  const noise = randomBytes(2_000);
  for (const accept of ['br', 'gzip'])
    assert.equal((await compression.apply({ status: 200, body: noise }, {}, accept)).body, noise);
  assert.deepEqual(await reasons(), [
    ['secret', 1],
    ['not_smaller', 2],
  ]);
});

test('a body that is kept is compressed once', async () => {
  let load = 0;
  const { compression } = compressing(() => load);
  const kept = { status: 200, body: Buffer.from(String(large.body)) };
  const first = await compression.apply(kept, {}, either);
  load = 1;
  const second = await compression.apply(kept, {}, either);
  assert.equal(second.body, first.body);
  assert.notEqual(first.body, kept.body);
  assert.equal((await compression.apply(kept, {}, 'gzip')).body, kept.body);
});

test('small replies, replies without a body and those of other types are no concern', () => {
  const text = 'x'.repeat(compressedBytesMin);
  assert.equal(Compression.concerns({ status: 200, body: text }), true);
  assert.equal(Compression.concerns({ status: 200, body: 'ä'.repeat(compressedBytesMin / 2) }), true);
  assert.equal(Compression.concerns({ status: 200, body: text.slice(1) }), false);
  assert.equal(Compression.concerns({ status: 200, body: text, mediaType: 'text/plain' }), false);
  assert.equal(Compression.concerns({ status: 304, body: null }), false);
  assert.equal(Compression.concerns({ status: 200, body: null, mediaType: 'text/event-stream' }), false);
});

test('the load of the event loop is of the time since the last sample, a second or more', () => {
  let nowMs = 0;
  const clock = { monotonic: () => nowMs } as Clock;
  const load = eventLoopLoad(clock);
  const until = performance.now() + 50;
  while (performance.now() < until);
  assert.equal(load(), 0);
  nowMs += 1_000;
  const busy = load();
  assert.ok(busy > 0 && busy <= 1, String(busy));
  nowMs += 999;
  assert.equal(load(), busy);
});

test('every route whose reply shows a secret says so, and no other', () => {
  const document = builtDocument();
  const schemas = document.components.schemas as Readonly<Record<string, unknown>>;
  const resolved = (node: unknown): string =>
    JSON.stringify(node, (key, value: unknown) => (key === 'examples' ? undefined : value)).replaceAll(
      /"\$ref":"#\/components\/schemas\/(\w+)"/g,
      (_, name: string) => `"schema":${resolved(schemas[name])}`,
    );
  const shown = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, operation]) =>
        /\^(?:slk_live|whsec)_/.test(resolved((operation as { responses: unknown }).responses)),
      )
      .map(([method]) => `${method.toUpperCase()} ${path}`),
  );
  const marked = routeTable({} as RouteTableOptions)
    .filter(({ showsSecret }) => showsSecret === true)
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`);
  assert.deepEqual(marked.toSorted(), shown.toSorted());
  assert.ok(marked.length >= 3);
});

interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

await onEachEngine({}, ({ node }) => {
  async function open(
    path: string,
    key: string,
    headers: Record<string, string>,
    body?: string,
  ): Promise<IncomingMessage> {
    const method = body === undefined ? (headers['x-method'] ?? 'GET') : 'POST';
    const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const sent = request(node().address + path, {
      method,
      headers: { Authorization: `Bearer ${key}`, ...type, ...headers },
    });
    sent.end(body);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    return response;
  }

  /** The bytes as they were on the wire. */
  async function get(path: string, key: string, headers: Record<string, string>, body?: string): Promise<Got> {
    const response = await open(path, key, headers, body);
    return { status: response.statusCode ?? 0, headers: response.headers, body: await buffer(response) };
  }

  /** A busy server sends replies as they are, so it is asked until it has time. */
  async function compressed(path: string, key: string, coding: string): Promise<Got> {
    for (let attempt = 1; ; attempt++) {
      const got = await get(path, key, { 'Accept-Encoding': coding });
      if (got.headers['content-encoding'] !== undefined || attempt === 500) return got;
      await new Promise((resume) => setTimeout(resume, 10));
    }
  }

  test('large replies of JSON and HTML come back the same from every coding, with their length and what they depend on', async () => {
    const { client, key } = await createOrg(node().address);
    const payload = `{ "words":"${'wörd '.repeat(1_000)}" }`;
    const sent = await client.post('/v1/events', `{"type":"a","payload":${payload}}`);
    const paths = [`/v1/events/${sent.json.id}`, '/v1/events', '/v1/inbox', '/openapi.json', '/docs'];
    for (const path of paths) {
      const plain = await get(path, key, {});
      assert.equal(plain.headers['content-encoding'], undefined);
      assert.match(plain.headers.vary ?? '', /Accept-Encoding/);
      for (const coding of ['br', 'gzip']) {
        const { status, headers, body } = await compressed(path, key, coding);
        assert.deepEqual([status, headers['content-encoding']], [200, coding], path);
        assert.equal(Number(headers['content-length']), body.length);
        assert.ok(body.length < plain.body.length / 2);
        assert.deepEqual(decoded[coding]?.(body), plain.body);
        assert.equal(headers['content-type'], plain.headers['content-type']);
        assert.equal(headers.vary, plain.headers.vary);
        assert.equal(headers.vary?.match(/Accept-Encoding/g)?.length, 1);
      }
    }
  });

  test('a tag is of one coding, and whichever a client has is answered with 304', async () => {
    const { client, key } = await createOrg(node().address);
    const sent = await client.post('/v1/events', { type: 'a', payload: 'word '.repeat(1_000) });
    for (const path of [`/v1/events/${sent.json.id}`, '/docs']) {
      const replies = [
        await get(path, key, {}),
        await compressed(path, key, 'br'),
        await compressed(path, key, 'gzip'),
      ];
      const tags = replies.map(({ headers }) => headers.etag ?? '');
      assert.equal(new Set(tags).size, 3, tags.join());
      for (const tag of tags) {
        for (const known of [tag, `W/${tag}`, `"x", ${tag}`]) {
          const { status, headers, body } = await get(path, key, { 'If-None-Match': known, 'Accept-Encoding': either });
          assert.deepEqual([status, headers.etag, body.length], [304, tag, 0]);
          assert.equal(headers['content-encoding'], undefined);
          assert.match(headers.vary ?? '', /Accept-Encoding/);
        }
      }
      const other = tags[0]?.replace(/"$/, '-zstd"') ?? '';
      assert.equal((await get(path, key, { 'If-None-Match': other })).status, 200);
    }
  });

  test('small replies, streams, HEAD and replies with a key are never compressed', async () => {
    const { client, key } = await createOrg(node().address);
    const accept = { 'Accept-Encoding': either };
    const sent = await client.post('/v1/events', { type: 'a', payload: 'word '.repeat(1_000) });
    const small = await get('/v1/org', key, accept);
    assert.deepEqual([small.status, small.headers['content-encoding']], [200, undefined]);
    const head = await get(`/v1/events/${sent.json.id}`, key, { ...accept, 'x-method': 'HEAD' });
    assert.deepEqual([head.status, head.headers['content-encoding'], head.body.length], [200, undefined, 0]);
    // Four bytes a character.
    const name = '😀'.repeat(255);
    for (const [path, credential] of [
      ['/v1/orgs', adminToken],
      ['/v1/keys', key],
    ] as const) {
      const made = await get(path, credential, accept, JSON.stringify({ name }));
      assert.deepEqual([made.status, made.headers['content-encoding']], [201, undefined]);
      assert.ok(made.body.length > compressedBytesMin);
      assert.match(JSON.parse(made.body.toString()).key, /^slk_live_/);
    }
    const stream = await open(`/v1/events/stream?after=${sent.json.id}`, key, accept);
    assert.deepEqual([stream.statusCode, stream.headers['content-encoding']], [200, undefined]);
    stream.destroy();
  });
});

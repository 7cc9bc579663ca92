import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { before, test } from 'node:test';
import type { ErrorCode } from '../../src/errors.js';
import { answerClientError } from '../../src/http/client-error.js';
import type { TestOrg } from '../support/client.js';
import { createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { assertProblem } from '../support/problem.js';
import { exchange } from '../support/raw-http.js';

const end = '\r\n\r\n';
const host = 'Host: sluice.test\r\nConnection: close';
const event = '{"type":"a","payload":1}';

/** What is no HTTP/1.1 request, or two of them to two readers: refused, and nothing after it on that connection is read. */
const refused: readonly (readonly [what: string, code: ErrorCode, request: string])[] = [
  ['no HTTP at all', 'bad_request', `hello${end}`],
  ['the begin of HTTP/2', 'bad_request', `PRI * HTTP/2.0${end}SM${end}`],
  ['a tunnel', 'bad_request', `CONNECT example.com:80 HTTP/1.1\r\n${host}${end}`],
  ['no Host', 'bad_request', `GET /healthz HTTP/1.1\r\nConnection: close${end}`],
  ['two Hosts', 'bad_request', `GET /healthz HTTP/1.1\r\n${host}\r\nhost: other${end}`],
  ['a space before the colon', 'bad_request', `GET /healthz HTTP/1.1\r\n${host}\r\nX-A : b${end}`],
  ['a header over two lines (obs-fold)', 'bad_request', `GET /healthz HTTP/1.1\r\n${host}\r\nX-A: b\r\n c${end}`],
  ['a NUL in a header', 'bad_request', `GET /healthz HTTP/1.1\r\n${host}\r\nX-A: b\0c${end}`],
  ['lines that end without CR', 'bad_request', `GET /healthz HTTP/1.1\nHost: a\nConnection: close\n\n`],
  ['bytes above ASCII in the address', 'bad_request', `GET /v1/ä HTTP/1.1\r\n${host}${end}`],
  [
    'headers over the limit',
    'headers_too_large',
    `GET /healthz HTTP/1.1\r\n${host}\r\nX-A: ${'b'.repeat(17_000)}${end}`,
  ],
  ['an address over the limit', 'uri_too_long', `GET /healthz?${'b'.repeat(17_000)} HTTP/1.1\r\n${host}${end}`],
];

/** Ways to make two readers disagree on where a body ends. Each carries a request for /healthz where another reader would see one. */
const smuggling: readonly (readonly [what: string, headers: string])[] = [
  ['Content-Length and Transfer-Encoding', 'Content-Length: 4\r\nTransfer-Encoding: chunked'],
  ['Transfer-Encoding and Content-Length', 'Transfer-Encoding: chunked\r\nContent-Length: 4'],
  ['two lengths that differ', 'Content-Length: 0\r\nContent-Length: 60'],
  ['a list of lengths', 'Content-Length: 0, 0'],
  ['a length with a sign', 'Content-Length: +0'],
  ['a length in hexadecimal', 'Content-Length: 0x0'],
  ['an unknown coding', 'Transfer-Encoding: xchunked'],
  ['chunked, then another coding', 'Transfer-Encoding: chunked, identity'],
  ['a coding in two headers', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity'],
];

await onEachEngine({}, ({ node }) => {
  let org: TestOrg;
  before(async () => {
    org = await createOrg(node().address);
  });
  const post = (headers: string, body: string): string =>
    `POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${org.key}\r\nContent-Type: application/json\r\n${headers}${end}${body}`;

  for (const [what, code, request] of refused) {
    test(`${what} is refused as a problem, and the connection closed`, async () => {
      const reply = await exchange(node().address, request);
      assertProblem(reply, code);
      assert.equal(reply.rest, '');
    });
  }

  for (const [what, headers] of smuggling) {
    test(`a body's end that could be read in two ways is refused: ${what}`, async () => {
      const smuggled = `0${end}GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close${end}`;
      const reply = await exchange(node().address, post(headers, smuggled));
      assert.equal(Math.floor(reply.status / 100), 4);
      assertProblem(reply);
      assert.equal(reply.rest.includes('200 OK'), false, reply.rest);
      assert.equal(reply.rest.includes('"status":"ok"'), false, reply.rest);
    });
  }

  test('a chunk that is none is refused, and a request after an honest body is answered', async () => {
    const broken = await exchange(node().address, post('Transfer-Encoding: chunked', `zz${end}`));
    assertProblem(broken, 'bad_request');
    const length = Buffer.byteLength(event);
    const pair = `${event}GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close${end}`;
    const honest = await exchange(node().address, post(`Content-Length: ${length}`, pair));
    assert.equal(honest.status, 201);
    assert.match(honest.rest, /200 OK[^]*"status":"ok"/);
  });

  test('a chunked body over the limit gets 413 and the connection is closed', async () => {
    const size = 400_000;
    const body = `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n0${end}`;
    assertProblem(await exchange(node().address, post('Transfer-Encoding: chunked', body)), 'payload_too_large');
  });

  test('two Authorization headers are refused, whichever of them holds a key', async () => {
    const [known, unknown] = [`Bearer ${org.key}`, `Bearer slk_live_${'x'.repeat(43)}`];
    for (const [first, second] of [
      [known, unknown],
      [unknown, known],
      [known, known],
    ]) {
      const request = `GET /v1/org HTTP/1.1\r\n${host}\r\nAuthorization: ${first}\r\nauthorization: ${second}${end}`;
      assertProblem(await exchange(node().address, request), 'invalid_key');
    }
    const agreeing = `GET /v1/org HTTP/1.1\r\n${host}\r\nAuthorization: ${known}\r\nX-API-Key: ${org.key}${end}`;
    assert.equal((await exchange(node().address, agreeing)).status, 200);
  });

  test('the absolute form of an address means its path', async () => {
    const ok = await exchange(node().address, `GET http://sluice.test/healthz HTTP/1.1\r\n${host}${end}`);
    assert.equal(ok.status, 200);
    const wrong = await exchange(node().address, `DELETE http://sluice.test/healthz?a HTTP/1.1\r\n${host}${end}`);
    assertProblem(wrong, 'method_not_allowed');
  });

  test('a method nobody knows gets 405, an expectation nobody knows is ignored, HTTP/1.0 is answered', async () => {
    const propfind = await exchange(node().address, `PROPFIND /v1/org HTTP/1.1\r\n${host}${end}`);
    assertProblem(propfind, 'method_not_allowed');
    const expecting = await exchange(node().address, `GET /healthz HTTP/1.1\r\n${host}\r\nExpect: 200-ok${end}`);
    assert.equal(expecting.status, 200);
    assert.match(expecting.headers.get('x-request-id') ?? '', /./);
    assert.equal((await exchange(node().address, `GET /healthz HTTP/1.0${end}`)).status, 200);
  });
});

test('a request that does not arrive in time gets 408 as a problem, and the connection closed', async (t) => {
  const server = createServer({ requestTimeout: 50, headersTimeout: 50, connectionsCheckingInterval: 10 });
  server.on('clientError', answerClientError).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  assertProblem(await exchange(`http://127.0.0.1:${port}`, 'GET /healthz HTTP/1.1\r\nHost: a\r\n'), 'request_timeout');
});

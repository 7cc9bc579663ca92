/** Attempts, deadlines and errors of one call, whatever it asks for. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Sluice, SluiceError } from '../../src/client/index.js';
import { broken, json, problem, receipt, scripted, silent } from './scripted.js';

const event = { type: 'a.b', payload: { n: 1 } };
const stored = () => json(201, receipt);

async function failure(work: Promise<unknown>): Promise<SluiceError> {
  const error: unknown = await work.then(
    () => assert.fail('it succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SluiceError, String(error));
  return error;
}

test('an event is sent again under the same dedup_id after whatever may pass, also when it may have been stored', async () => {
  const passing = [
    () => problem(429, 'rate_limited', { 'Retry-After': '1' }),
    () => problem(503, 'overloaded', { 'Retry-After': '1' }),
    () => problem(503, 'outcome_unknown', { 'Retry-After': '1' }),
    () => new Response('<html>', { status: 502 }),
    () => broken('ECONNREFUSED'),
    () => broken('ECONNRESET'),
  ];
  const { sluice, requests } = scripted([...passing, stored]);
  assert.equal((await sluice.events.send(event)).id, receipt.id);
  assert.equal(requests.length, passing.length + 1);
  const ids = requests.map(({ body }) => JSON.parse(body).dedup_id);
  assert.match(ids[0], /^[0-9a-f-]{36}$/);
  assert.equal(new Set(ids).size, 1);
});

test('a duplicate of a dedup_id that nobody gave is the event itself; of one that was given it is told', async () => {
  const repeated = () => json(200, { ...receipt, duplicate: true });
  const { sluice } = scripted([() => broken('ECONNRESET'), repeated]);
  assert.equal((await sluice.events.send(event)).duplicate, false);
  assert.equal((await sluice.events.send({ ...event, dedup_id: 'mine' })).duplicate, true);
});

test('what is made once more by a repeat is repeated only if it certainly was not done', async () => {
  const uncertain = [() => broken('ECONNRESET'), () => problem(503, 'outcome_unknown', { 'Retry-After': '1' }), silent];
  for (const answer of uncertain) {
    const { sluice, requests } = scripted([answer, () => json(201, { id: 'key_1' })]);
    const error = await failure(sluice.keys.create({ name: 'a' }));
    assert.equal(error.mayHaveTakenEffect, true);
    assert.equal(requests.length, 1);
  }
  for (const answer of [() => broken('ECONNREFUSED'), () => problem(503, 'overloaded', { 'Retry-After': '1' })]) {
    const { sluice, requests } = scripted([answer, () => json(201, { id: 'key_1' })]);
    assert.equal((await sluice.keys.create({ name: 'a' })).id, 'key_1');
    assert.equal(requests.length, 2);
  }
});

test('a failure says that it may have taken effect if any attempt may have', async () => {
  const { sluice } = scripted([() => broken('ECONNRESET'), () => problem(503, 'overloaded')]);
  const error = await failure(sluice.events.send(event));
  assert.deepEqual([error.code, error.mayHaveTakenEffect], ['overloaded', true]);
  const certain = await failure(scripted([() => problem(503, 'overloaded')]).sluice.events.send(event));
  assert.equal(certain.mayHaveTakenEffect, false);
});

test('events are not given back by their ids once more after an unknown outcome: they may be in other hands', async () => {
  const given = () => json(200, { released: 1 });
  const byIds = scripted([() => broken('ECONNRESET'), given]);
  assert.equal((await failure(byIds.sluice.inbox().nack(['evt_1']))).mayHaveTakenEffect, true);
  assert.equal(byIds.requests.length, 1);
  const byLease = scripted([() => broken('ECONNRESET'), given]);
  assert.deepEqual(await byLease.sluice.inbox().nack({ leaseId: 'lse_1' }), { released: 1 });
});

test('Retry-After is waited for, and chance is added to it', async () => {
  const { sluice, requests } = scripted([() => problem(429, 'rate_limited', { 'Retry-After': '7' }), stored]);
  await sluice.events.send(event);
  const waitedMs = requests[1]!.atMs - requests[0]!.atMs;
  assert.ok(waitedMs >= 7_000 && waitedMs < 7_200, String(waitedMs));
});

test('without Retry-After the waits grow, and both attempts and time end', async () => {
  const many = scripted([() => problem(503, 'overloaded')]);
  assert.equal((await failure(many.sluice.events.send(event))).code, 'overloaded');
  assert.equal(many.requests.length, 8);
  const waits = many.requests.slice(1).map(({ atMs }, i) => atMs - many.requests[i]!.atMs);
  assert.deepEqual(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000]);

  const long = scripted([() => problem(429, 'rate_limited', { 'Retry-After': '25' })]);
  assert.equal((await failure(long.sluice.events.send(event))).retryAfterSeconds, 25);
  assert.equal(long.requests.length, 3, 'a third wait would end after 60 seconds');
});

test('what will be refused again is not sent again, and the error says all that the server said', async () => {
  const errors = [{ path: '/type', message: 'is required' }];
  const { sluice, requests } = scripted([() => problem(422, 'validation_failed', {}, { errors })]);
  const error = await failure(sluice.events.send(event));
  assert.equal(requests.length, 1);
  const { status, code, detail, requestId } = error;
  assert.deepEqual(
    { status, code, detail, requestId },
    { status: 422, code: 'validation_failed', detail: 'detail of validation_failed', requestId: 'request-1' },
  );
  assert.deepEqual(error.errors, errors);
  assert.deepEqual(error.problem?.['errors'], errors);
});

test('a request that is not answered ends at its deadline, to which a long poll adds what it waits', async () => {
  const { sluice, requests, clock } = scripted([silent], { requestSeconds: 5, retry: { attemptsMax: 1 } });
  assert.equal((await failure(sluice.org.get())).code, 'no_answer');
  assert.equal(clock.monotonic(), 5_000);
  await failure(sluice.inbox().receive({ waitSeconds: 20 }));
  assert.equal(clock.monotonic(), 30_000);
  assert.equal(requests.length, 2);
});

test('the deadline includes the body', async () => {
  const stuck = () => new Response(new ReadableStream({ start: (stream) => stream.enqueue(Buffer.from('{"id"')) }));
  const { sluice } = scripted(
    [
      (request) => {
        const response = stuck();
        const reader = response.body!.getReader();
        // As fetch does: an abort ends the body, too.
        const body = new ReadableStream<Uint8Array>({
          async pull(stream) {
            const read = await Promise.race([
              reader.read(),
              new Promise<never>((_, reject) =>
                request.signal.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError'))),
              ),
            ]);
            if (read.value !== undefined) stream.enqueue(read.value as Uint8Array);
          },
        });
        return new Response(body);
      },
    ],
    { retry: { attemptsMax: 1 } },
  );
  assert.equal((await failure(sluice.org.get())).code, 'no_answer');
});

test('the caller’s signal ends a request and the wait for the next attempt, with its own reason', async () => {
  const reason = new Error('enough');
  for (const answer of [silent, () => problem(503, 'overloaded', { 'Retry-After': '50' })]) {
    const controller = new AbortController();
    const { sluice, requests } = scripted([
      (request) => {
        queueMicrotask(() => queueMicrotask(() => controller.abort(reason)));
        return answer(request);
      },
    ]);
    await assert.rejects(sluice.events.send(event, { signal: controller.signal }), (error) => error === reason);
    assert.equal(requests.length, 1);
    await assert.rejects(sluice.events.send(event, { signal: controller.signal }), (error) => error === reason);
    assert.equal(requests.length, 1, 'nothing is sent with a signal that was aborted before');
  }
});

test('an answer that is not of Sluice is told as such, and an endless one is not read to its end', async () => {
  const endless = () => new Response(new ReadableStream({ pull: (stream) => stream.enqueue(new Uint8Array(1 << 20)) }));
  const answers = [() => new Response('<html>'), () => new Response('<html>', { status: 404 }), endless];
  for (const answer of answers) {
    const { sluice, requests } = scripted([answer]);
    const error = await failure(sluice.org.get());
    assert.equal(error.code, 'bad_reply');
    assert.match(error.detail, /is this the URL of a Sluice server\?/);
    assert.equal(requests.length, 1);
  }
});

test('over a real connection: no server, and a redirect that would take the key elsewhere', async (t) => {
  const targets: string[] = [];
  const server = createServer((request, response) => {
    targets.push(request.url ?? '');
    response.writeHead(307, { Location: '/elsewhere' }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const options = { url, key: 'slk_live_secret', retry: { attemptsMax: 1 } };
  const redirected = await failure(new Sluice(options).org.get());
  assert.equal(redirected.code, 'bad_reply');
  assert.match(redirected.detail, /redirects to http:\/\/127\.0\.0\.1/);
  assert.deepEqual(targets, ['/v1/org']);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  const refused = await failure(new Sluice(options).org.get());
  assert.equal(refused.code, 'unreachable');
  assert.equal(refused.mayHaveTakenEffect, false);
  assert.match(refused.detail, new RegExp(`^No server answers at ${url} \\(ECONNREFUSED\\)`));
});

test('a key or a URL that cannot be one is refused at once, and neither is repeated', () => {
  const url = 'http://127.0.0.1:8080';
  for (const key of ['', 'with space', 'line\nbreak', 'schlüssel', 'k'.repeat(513)]) {
    assert.throws(() => new Sluice({ url, key }), { name: 'TypeError', message: /^The key is to be / });
  }
  for (const bad of ['127.0.0.1:8080', 'ftp://a', 'http://u:hidden@a', 'http://a?b', '']) {
    assert.throws(
      () => new Sluice({ url: bad, key: 'k' }),
      (error: Error) => !error.message.includes('hidden'),
    );
  }
});

test('a server behind a path is found there', async () => {
  const { sluice, requests } = scripted([() => json(200, {})], { url: 'http://sluice.test/events/api/' });
  await sluice.org.get();
  assert.equal(requests[0]?.path, '/events/api/v1/org');
});

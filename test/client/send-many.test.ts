import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SluiceError } from '../../src/client/index.js';
import type { NewEvent, SendOutcome } from '../../src/client/index.js';
import { broken, json, problem, scripted } from './scripted.js';
import type { Answer, SentRequest } from './scripted.js';

function events(count: number, from = 0): NewEvent[] {
  return Array.from({ length: count }, (_, i) => ({ type: 'a.b', payload: { n: from + i }, dedup_id: `d${from + i}` }));
}

function itemsOf({ body }: SentRequest): { payload: { n: number }; dedup_id: string }[] {
  return JSON.parse(body);
}

/** Answers a batch as the API says; `statusOf` says what becomes of each event. */
function answering(statusOf: (n: number) => number = () => 201): Answer {
  return (request) => {
    const results = itemsOf(request).map(({ payload }) => {
      const status = statusOf(payload.n);
      return status < 300 ? { status, id: `evt_${payload.n}` } : { status, code: 'validation_failed', detail: 'no' };
    });
    return json(200, { results });
  };
}

test('a batch has at most 1,000 events and 8 MiB, and none is lost, doubled or out of order', async () => {
  const { sluice, requests } = scripted([answering()]);
  const large = events(40, 2_500).map((event) => ({
    ...event,
    payload: { ...(event.payload as object), x: 'ä'.repeat(120_000) },
  }));
  const outcomes: SendOutcome[] = [];
  const summary = await sluice.events.sendMany([...events(2_500), ...large], {
    onResults: (more) => outcomes.push(...more),
  });
  assert.deepEqual(summary, { accepted: 2_540, duplicates: 0, rejected: 0, refusals: [] });
  assert.deepEqual(requests.map((request) => itemsOf(request).length).slice(0, 2), [1_000, 1_000]);
  for (const { path, body } of requests) {
    assert.equal(path, '/v1/events/batch');
    assert.ok(Buffer.byteLength(body) <= 8 * 1024 * 1024, `${Buffer.byteLength(body)} bytes`);
  }
  assert.ok(Math.max(...requests.map(({ body }) => Buffer.byteLength(body))) > 7.5 * 1024 * 1024);
  assert.deepEqual(
    requests.flatMap(itemsOf).map(({ payload }) => payload.n),
    Array.from({ length: 2_540 }, (_, n) => n),
  );
  assert.deepEqual(
    outcomes.map(({ index, result }) => [index, result.id]),
    Array.from({ length: 2_540 }, (_, n) => [n, `evt_${n}`]),
  );
});

test('a refused event does not take the others along; what can be no event is refused here, at its place', async () => {
  const { sluice } = scripted([answering((n) => [201, 200, 422][n] ?? 201)]);
  const source = [...events(3), { type: 'a.b', rawPayload: '{' }, { json: '[]' }, ...events(1, 5)];
  const { refusals, ...counts } = await sluice.events.sendMany(source);
  assert.deepEqual(counts, { accepted: 2, duplicates: 1, rejected: 3 });
  assert.deepEqual(
    refusals.map(({ index, event, result }) => [index, event, result.code]),
    [
      [2, source[2], 'validation_failed'],
      [3, source[3], 'invalid_json'],
      [4, source[4], 'invalid_json'],
    ],
  );
});

test('events that could not be stored at the moment are sent again alone, under their dedup_ids', async () => {
  let isDown = true;
  const { sluice, requests } = scripted([
    (request) => {
      const results = itemsOf(request).map(({ payload }) =>
        isDown && payload.n % 2 === 1 ? { status: 503, code: 'outcome_unknown', detail: 'x' } : { status: 201 },
      );
      isDown = false;
      return json(200, { results });
    },
  ]);
  assert.equal((await sluice.events.sendMany(events(4))).accepted, 4);
  assert.deepEqual(
    requests.map((request) => itemsOf(request).map(({ dedup_id }) => dedup_id)),
    [
      ['d0', 'd1', 'd2', 'd3'],
      ['d1', 'd3'],
    ],
  );
});

test('what was stored is told, though a later attempt for the rest fails as a whole', async () => {
  const half = (request: SentRequest): Response =>
    json(200, {
      results: itemsOf(request).map(({ payload }) =>
        payload.n === 0 ? { status: 201, id: 'evt_0' } : { status: 503, code: 'overloaded', detail: 'x' },
      ),
    });
  const down = () => problem(503, 'overloaded');
  const results = await scripted([half, down]).sluice.events.sendBatch(events(2));
  assert.deepEqual(
    results.map(({ status, id, code }) => [status, id, code]),
    [
      [201, 'evt_0', undefined],
      [503, undefined, 'overloaded'],
    ],
  );
  const lost = await scripted([half, () => broken('ECONNRESET'), down]).sluice.events.sendBatch(events(2));
  assert.deepEqual([lost[0]?.id, lost[1]?.status, lost[1]?.code], ['evt_0', 503, 'outcome_unknown']);

  const told: SendOutcome[] = [];
  const { sluice } = scripted([half, down]);
  const sent = sluice.events.sendMany(events(2), { onResults: (outcomes) => told.push(...outcomes) });
  await assert.rejects(sent, (error) => error instanceof SluiceError && error.code === 'overloaded');
  assert.deepEqual(
    told.map(({ index, result }) => [index, result.id]),
    [[0, 'evt_0']],
  );
});

test('what the first half of a batch stored is told, though the second half fails', async () => {
  const told: SendOutcome[] = [];
  const { sluice } = scripted([() => problem(413, 'batch_too_large'), answering(), () => problem(401, 'invalid_key')]);
  const sent = sluice.events.sendMany(events(4), { onResults: (outcomes) => told.push(...outcomes) });
  await assert.rejects(sent, SluiceError);
  assert.deepEqual(
    told.map(({ result }) => result.id),
    ['evt_0', 'evt_1'],
  );
});

test('an event that an attempt may have stored stays one, whatever its last attempt says', async () => {
  const answers = ['outcome_unknown', 'overloaded'].map(
    (code) => () => json(200, { results: [{ status: 503, code, detail: 'x' }] }),
  );
  const [result] = await scripted(answers).sluice.events.sendBatch(events(1));
  assert.deepEqual([result?.status, result?.code], [503, 'outcome_unknown']);
});

test('an event without a dedup_id of any kind is not sent again after an unknown outcome', async () => {
  const { sluice, requests } = scripted([
    () => json(200, { results: [{ status: 503, code: 'outcome_unknown', detail: 'x' }] }),
  ]);
  const { rejected } = await sluice.events.sendMany([{ json: '{"type":"a.b","payload":1,"dedup_id":null}' }]);
  assert.deepEqual([rejected, requests.length], [1, 1]);
});

test('a batch of more than the org may send at once goes in parts, and later batches are smaller from the first', async () => {
  const { sluice, requests } = scripted([
    (request) => (itemsOf(request).length > 300 ? problem(413, 'rate_exceeds_burst') : answering()(request)),
  ]);
  assert.equal((await sluice.events.sendMany(events(3_000))).accepted, 3_000);
  const sizes = requests.map((request) => itemsOf(request).length);
  assert.equal(sizes.filter((size) => size > 300).length, 2, `${sizes.join()}: learnt once`);
});

test('a slow source gets its events stored without waiting for a full batch', async () => {
  const { sluice, requests, clock } = scripted([answering()]);
  let resume = (): void => {};
  const source = async function* () {
    yield* events(2);
    // The batch of the first two must leave while this waits, or it waits for ever.
    await new Promise<void>((resolve) => {
      resume = resolve;
    });
    yield* events(1, 2);
  };
  const sent = sluice.events.sendMany(source(), { onResults: () => resume() });
  assert.equal((await sent).accepted, 3);
  assert.deepEqual(
    requests.map((request) => itemsOf(request).length),
    [2, 1],
  );
  assert.ok(clock.monotonic() < 1_000);
});

test('no more than the batches under way and the next one are read from the source', async () => {
  const release: (() => void)[] = [];
  const { sluice } = scripted([
    async (request) => {
      await new Promise<void>((resolve) => release.push(resolve));
      return answering()(request);
    },
  ]);
  let read = 0;
  const source = function* () {
    for (const event of events(10_000)) {
      read++;
      yield event;
    }
  };
  const sent = sluice.events.sendMany(source(), { concurrency: 3 });
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  assert.equal(release.length, 3);
  assert.ok(read <= 4_000, `${read} were read`);
  while (release.length < 10) {
    release.at(-1)?.();
    for (const done of release) done();
    await new Promise(setImmediate);
  }
  for (const done of release) done();
  assert.equal((await sent).accepted, 10_000);
});

test('a refused request ends the reading of the source, even while that waits for its next event', async () => {
  for (const waits of [true, false]) {
    const { sluice, requests } = scripted([() => problem(401, 'invalid_key')]);
    let closed = false;
    const source = async function* () {
      try {
        yield* events(waits ? 500 : 1_500);
        if (waits) await new Promise(() => {});
        yield* events(100_000, 1_500);
      } finally {
        closed = true;
      }
    };
    await assert.rejects(sluice.events.sendMany(source(), { concurrency: 2 }), (error) => {
      return error instanceof SluiceError && error.code === 'invalid_key';
    });
    assert.ok(requests.length <= 4);
    assert.equal(closed, !waits);
  }
});

test('the signal ends it, and so does a source that fails', async () => {
  const { sluice } = scripted([answering()]);
  const controller = new AbortController();
  const reason = new Error('enough');
  const endless = async function* () {
    yield* events(10);
    controller.abort(reason);
    await new Promise(() => {});
  };
  await assert.rejects(sluice.events.sendMany(endless(), { signal: controller.signal }), (error) => error === reason);
  const failing = async function* () {
    yield* events(10);
    throw reason;
  };
  await assert.rejects(sluice.events.sendMany(failing()), (error) => error === reason);
});

test('an atomic batch is one request, and its refusal holds what became of each', async () => {
  const results = [
    { status: 422, code: 'not_stored' },
    { status: 422, code: 'validation_failed' },
  ];
  const { sluice, requests } = scripted([() => problem(422, 'validation_failed', {}, { results })]);
  await assert.rejects(sluice.events.sendBatch(events(2), { atomic: true }), (error) => {
    assert.ok(error instanceof SluiceError);
    assert.deepEqual(error.problem?.['results'], results);
    return true;
  });
  assert.equal(requests[0]?.path, '/v1/events/batch?atomic=true');
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { GroupCommit } from '../../src/ingest/group-commit.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { signal } from '../support/conformance.js';
import { newEvent } from '../support/event-log.js';
import { TestClock } from '../support/test-clock.js';

const limits = { batchEventsMax: () => 8, batchBytesMax: 64 * 1024, queueBytesMax: 256 * 1024, queueAgeMsMax: 1_000 };

/** A store whose writes end when the test says so. */
class SlowStore {
  readonly batches: (readonly NewEvent[])[] = [];
  #finish: ((outcome: 'stored' | 'throw' | 'short') => void) | null = null;
  #next = signal();

  readonly store = async (batch: readonly NewEvent[]): Promise<StoredOrRefused[]> => {
    assert.equal(this.#finish, null, 'a second batch is written while the first still is');
    this.batches.push(batch);
    const end = signal<'stored' | 'throw' | 'short'>();
    this.#finish = end.fire;
    this.#next.fire();
    const outcome = await end.promise;
    if (outcome === 'throw') throw new Error('the store broke its promise');
    const results = batch.map(stored);
    return outcome === 'short' ? results.slice(1) : results;
  };

  /** Resolves when a batch is being written. */
  async begun(): Promise<void> {
    while (this.#finish === null) await this.#next.promise;
  }

  /** Ends the write under way. */
  finish(outcome: 'stored' | 'throw' | 'short' = 'stored'): void {
    const finish = this.#finish;
    this.#finish = null;
    this.#next = signal();
    finish?.(outcome);
  }
}

function start(overrides: Partial<typeof limits> = {}) {
  const clock = new TestClock();
  const slow = new SlowStore();
  const ingest = new GroupCommit({ clock, store: slow.store, ...limits, ...overrides });
  return { clock, slow, ingest, started: ingest.start() };
}

describe('group commit', () => {
  it('writes an event that comes alone at once, as a batch of one', async () => {
    const { slow, ingest } = start();
    const answer = ingest.add(newEvent('1', '"a"'));
    await slow.begun();
    assert.deepEqual(slow.batches.map(payloads), [['"a"']]);
    slow.finish();
    assert.ok('appended' in (await answer));
    await ingest.stop();
  });

  it('gathers what comes while a batch is written into the next one', async () => {
    const { slow, ingest } = start();
    const answers = [ingest.add(newEvent('1', '0'))];
    await slow.begun();
    for (let i = 1; i <= 5; i++) answers.push(ingest.add(newEvent('1', String(i))));
    slow.finish();
    await answers[0];
    await slow.begun();
    slow.finish();
    await Promise.all(answers);
    assert.deepEqual(slow.batches.map(payloads), [['0'], ['1', '2', '3', '4', '5']]);
    await ingest.stop();
  });

  it('has the next batch written before it answers the last one', async () => {
    const { slow, ingest } = start();
    const order: string[] = [];
    const first = ingest.add(newEvent('1', '0')).then(() => order.push('answered'));
    await slow.begun();
    const second = ingest.add(newEvent('1', '1'));
    slow.finish();
    await slow.begun();
    order.push('begun');
    await first;
    slow.finish();
    await second;
    assert.deepEqual(order, ['begun', 'answered']);
    await ingest.stop();
  });

  it('asks for each batch how large it may be, since that is less while reads wait', async () => {
    let max = 2;
    const { slow, ingest } = start({ batchEventsMax: () => max });
    const answers = [0, 1, 2, 3, 4].map((i) => ingest.add(newEvent('1', String(i))));
    await slow.begun();
    max = 8;
    slow.finish();
    await answers[0];
    await slow.begun();
    slow.finish();
    await Promise.all(answers);
    assert.deepEqual(slow.batches.map(payloads), [
      ['0', '1'],
      ['2', '3', '4'],
    ]);
    await ingest.stop();
  });

  it('answers no event before the batch that holds it is stored', async () => {
    const { slow, ingest } = start();
    let answered = false;
    const answer = ingest.add(newEvent('1', '0')).finally(() => {
      answered = true;
    });
    await slow.begun();
    await turn();
    assert.equal(answered, false);
    slow.finish();
    await answer;
    await ingest.stop();
  });

  it('refuses at once, with a time to retry, what its queue has no room for', async () => {
    const { slow, ingest } = start({ queueBytesMax: 10_000 });
    const answers = [ingest.add(newEvent('1', '0'))];
    await slow.begun();
    for (let i = 0; i < 20; i++) answers.push(ingest.add(newEvent('1', '0')));
    assert.ok(ingest.waitingBytes <= 10_000);
    const refused = await Promise.race(answers);
    assert.ok('refused' in refused && refused.refused.code === 'overloaded');
    assert.equal(refused.refused.retryAfterSeconds, 1);
    slow.finish();
    await slow.begun();
    slow.finish();
    await Promise.all(answers);
    await ingest.stop();
  });

  it('tells the refused when all that waits will be gone, and then it is', async () => {
    const { clock, slow, ingest } = start({ queueBytesMax: 100_000, queueAgeMsMax: 10_000 });
    const write = async (): Promise<void> => {
      await slow.begun();
      clock.advance(400);
      slow.finish();
    };
    const first = ingest.add(newEvent('1', '0'));
    await write();
    await first;
    const answers = Array.from({ length: 60 }, () => ingest.add(newEvent('1', '0')));
    const refused = await Promise.race(answers);
    assert.ok('refused' in refused && refused.refused.code === 'overloaded');
    const batches = 1 + ingest.waitingEvents / limits.batchEventsMax();
    assert.equal(refused.refused.retryAfterSeconds, Math.ceil((batches * 400) / 1000));
    const untilMs = clock.monotonic() + 1_000 * (refused.refused.retryAfterSeconds ?? 0);
    while (clock.monotonic() + 400 <= untilMs && ingest.waitingEvents > 0) await write();
    assert.equal(ingest.waitingEvents, 0);
    const again = ingest.add(newEvent('1', '0'));
    await finishAll(slow, ingest.stop());
    assert.ok('appended' in (await again));
    await Promise.all(answers);
  });

  it('refuses at once what would wait too long, but never for the flood of another org', async () => {
    const { clock, slow, ingest } = start();
    const first = ingest.add(newEvent('1', '0'));
    await slow.begun();
    clock.advance(400);
    slow.finish();
    await first;
    // At 400 ms a batch of 8, whoever has three batches before it would wait longer than the 1,000 ms there are.
    const flood = Array.from({ length: 100 }, () => ingest.add(newEvent('1', '0')));
    assert.equal(ingest.waitingEvents, 24);
    const single = ingest.add(newEvent('2', '0'));
    assert.equal(ingest.waitingEvents, 25);
    await finishAll(slow, ingest.stop());
    assert.ok('appended' in (await single));
    assert.equal((await Promise.all(flood)).filter((result) => 'appended' in result).length, 24);
  });

  it('counts what a small payload holds in memory: the whole of the body it came in', async () => {
    const { slow, ingest } = start({ queueBytesMax: 1_100_000 });
    const answers = [ingest.add(newEvent('1', '0'))];
    await slow.begun();
    for (let i = 0; i < 10; i++) {
      const body = Buffer.alloc(300_000, ' ');
      answers.push(ingest.add({ ...newEvent('1', '0'), payload: body.subarray(0, 1) }));
    }
    assert.equal(ingest.waitingEvents, 3);
    await finishAll(slow, ingest.stop());
    await Promise.all(answers);
  });

  it('refuses what has waited too long, also while the store hangs', async () => {
    const { clock, slow, ingest } = start();
    const written = ingest.add(newEvent('1', '0'));
    await slow.begun();
    const waiting = ingest.add(newEvent('1', '1'));
    clock.advance(limits.queueAgeMsMax * 1.25 + 1);
    const refused = await waiting;
    assert.ok('refused' in refused && refused.refused.code === 'overloaded');
    assert.equal(ingest.waitingEvents, 0);
    slow.finish();
    assert.ok('appended' in (await written));
    await ingest.stop();
  });

  it('refuses a batch whose store breaks its promise never to fail, and goes on with the next', async () => {
    for (const outcome of ['throw', 'short'] as const) {
      const { slow, ingest } = start();
      const first = ingest.add(newEvent('1', '0'));
      await slow.begun();
      const second = ingest.add(newEvent('1', '1'));
      slow.finish(outcome);
      const refused = await first;
      assert.ok('refused' in refused && refused.refused.code === 'internal');
      await slow.begun();
      slow.finish();
      assert.ok('appended' in (await second));
      await ingest.stop();
    }
  });

  it('settles all that waits before it has stopped, and refuses what comes later', async () => {
    const { slow, ingest } = start();
    const answers = Array.from({ length: 20 }, (_, i) => ingest.add(newEvent(String(i % 3), String(i))));
    let stopped = false;
    const stopping = ingest.stop().finally(() => {
      stopped = true;
    });
    const late = await ingest.add(newEvent('1', '"late"'));
    assert.ok('refused' in late && late.refused.code === 'storage_unavailable');
    for (let batch = 0; batch < 3; batch++) {
      await slow.begun();
      assert.equal(stopped, false);
      slow.finish();
    }
    for (const result of await Promise.all(answers)) assert.ok('appended' in result);
    await stopping;
    assert.equal(slow.batches.flat().length, 20);
  });

  it('takes the events of one request in one call and answers with their outcomes in order, also from several batches', async () => {
    const { slow, ingest } = start();
    const events = Array.from({ length: 20 }, (_, i) => newEvent('1', String(i)));
    const answer = ingest.addAll(events, 1_000);
    assert.equal(ingest.waitingEvents, 20);
    let answered = false;
    void answer.finally(() => {
      answered = true;
    });
    for (let batch = 0; batch < 3; batch++) {
      await slow.begun();
      await turn();
      assert.equal(answered, false);
      slow.finish(batch === 1 ? 'throw' : 'stored');
    }
    const results = await answer;
    assert.deepEqual(
      results.map((result) =>
        'appended' in result && 'place' in result.appended ? result.appended.place.position : null,
      ),
      events.map((_, i) => (i >= 8 && i < 16 ? null : i)),
    );
    assert.deepEqual(await ingest.addAll([], 0), []);
    await ingest.stop();
  });

  it('refuses the events of a request from the first on that there is no room for, and the whole if that is the first', async () => {
    const { slow, ingest } = start({ queueBytesMax: 10_000 });
    const sizes = [1, 1, 9_000, 1, 1];
    const events = sizes.map((bytes, i) => newEvent('1', JSON.stringify(`${i}${'.'.repeat(bytes)}`)));
    const answer = ingest.addAll(events, 9_500);
    assert.equal(ingest.waitingEvents, 2);
    assert.ok(ingest.waitingBytes <= 10_000);
    await assert.rejects(ingest.addAll([newEvent('1', `"${'.'.repeat(9_000)}"`)], 9_002), /overloaded/);
    await slow.begun();
    slow.finish();
    const codes = (await answer).map((result) => ('refused' in result ? result.refused.code : 'stored'));
    assert.deepEqual(codes, ['stored', 'stored', 'overloaded', 'overloaded', 'overloaded']);
    await ingest.stop();
    await assert.rejects(ingest.addAll([newEvent('1', '0')], 100), /storage_unavailable/);
  });

  it('counts the body that the events of a request are parts of once, and all of it', async () => {
    const { slow, ingest } = start({ queueBytesMax: 1_000_000 });
    const answers = [ingest.add(newEvent('1', '0'))];
    await slow.begun();
    const body = Buffer.alloc(300_000, '1');
    const parts = Array.from({ length: 10 }, (_, i) => ({ ...newEvent('1', '0'), payload: body.subarray(i, i + 1) }));
    const all = ingest.addAll(parts, body.length);
    assert.equal(ingest.waitingEvents, 10);
    assert.ok(ingest.waitingBytes >= 300_000 && ingest.waitingBytes < 400_000, String(ingest.waitingBytes));
    await finishAll(slow, ingest.stop());
    await Promise.all([...answers, all]);
  });

  it('settles every event once, keeps each org in order and each batch within bounds, whatever the interleaving', async () => {
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ org: fc.constantFrom('1', '2', '3'), bytes: fc.nat(40_000) }) },
      { weight: 3, arbitrary: fc.constantFrom('stored' as const, 'throw' as const, 'short' as const) },
      { weight: 2, arbitrary: fc.constant('turn' as const) },
      { weight: 1, arbitrary: fc.record({ advanceMs: fc.nat(800) }) },
    );
    const property = fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const { clock, slow, ingest } = start();
      const answers: Promise<StoredOrRefused>[] = [];
      const settled: number[] = [];
      for (const action of steps) {
        if (action === 'turn') await turn();
        else if (typeof action === 'string') slow.finish(action);
        else if ('advanceMs' in action) clock.advance(action.advanceMs);
        else {
          const number = answers.length;
          const answer = ingest.add(newEvent(action.org, JSON.stringify(`${number}:${'.'.repeat(action.bytes)}`)));
          answers.push(answer);
          void answer.then(() => settled.push(number));
        }
        assert.ok(ingest.waitingBytes <= limits.queueBytesMax);
      }
      await finishAll(slow, ingest.stop());
      const results = await Promise.all(answers);
      assert.deepEqual(
        settled.toSorted((a, b) => a - b),
        answers.map((_, number) => number),
      );
      assert.equal(ingest.waitingEvents, 0);
      checkBatches(slow.batches, results);
    });
    await fc.assert(property, { numRuns: 150 });
  });
});

function checkBatches(batches: readonly (readonly NewEvent[])[], results: readonly StoredOrRefused[]): void {
  const last = new Map<string, number>();
  const written = new Set<number>();
  for (const batch of batches) {
    assert.ok(batch.length > 0 && batch.length <= limits.batchEventsMax());
    const bytes = batch.reduce((total, { payload }) => total + payload.length, 0);
    assert.ok(batch.length === 1 || bytes <= limits.batchBytesMax);
    for (const event of batch) {
      const number = numberOf(event);
      assert.ok(number > (last.get(event.org) ?? -1), 'an org out of order');
      last.set(event.org, number);
      assert.ok(!written.has(number), 'written twice');
      written.add(number);
    }
  }
  for (const [number, result] of results.entries()) {
    // Each event's answer is its own, and what was stored was written.
    if ('appended' in result) {
      assert.ok(written.has(number));
      assert.equal('place' in result.appended && result.appended.place.position, number);
    }
  }
}

/** A receipt from which the event it is for can be told. */
function stored(event: NewEvent): StoredOrRefused {
  const place = { epoch: 1, position: numberOf(event), day: 0, receivedAtMs: 0 };
  return { appended: { kind: 'stored', place }, durability: 'fsync' };
}

function numberOf({ payload }: NewEvent): number {
  return Number.parseInt(payload.toString().replace('"', ''), 10);
}

function payloads(batch: readonly NewEvent[]): string[] {
  return batch.map(({ payload }) => payload.toString());
}

/** Ends every write until `stopping` resolves. */
async function finishAll(slow: SlowStore, stopping: Promise<void>): Promise<void> {
  const ended = stopping.then(() => true);
  do slow.finish();
  while (!(await Promise.race([ended, turn().then(() => false)])));
}

function turn(): Promise<void> {
  return new Promise((resume) => {
    setImmediate(resume);
  });
}

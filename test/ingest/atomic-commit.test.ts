import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Problem } from '../../src/errors.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { AtomicCommit } from '../../src/ingest/atomic-commit.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { signal } from '../support/conformance.js';
import { newEvent } from '../support/event-log.js';
import { TestClock } from '../support/test-clock.js';

const limits = { queueBytesMax: 100_000, queueAgeMsMax: 1_000 };

function stored({ payload }: NewEvent): StoredOrRefused {
  const place = { epoch: 1, position: Number(payload.toString()), day: 0, receivedAtMs: 0 };
  return { appended: { kind: 'stored', place }, durability: 'fsync' };
}

/** A commit whose transactions end when the test says so. */
function start(refusal?: () => Problem | null) {
  const clock = new TestClock();
  const batches: string[][] = [];
  const ends: ((error: unknown) => void)[] = [];
  const store = async (batch: readonly NewEvent[]): Promise<StoredOrRefused[]> => {
    batches.push(batch.map(({ org, payload }) => `${org}:${payload.toString()}`));
    const end = signal<unknown>();
    ends.push(end.fire);
    const error = await end.promise;
    if (error !== null) throw error;
    return batch.map(stored);
  };
  const atomic = new AtomicCommit({ clock, store, ...limits, ...(refusal && { refusal }) });
  void atomic.start();
  const finish = async (error: unknown = null): Promise<void> => {
    ends.shift()?.(error);
    await turn();
  };
  return { clock, atomic, batches, finish };
}

function turn(): Promise<void> {
  return new Promise((resume) => {
    setImmediate(resume);
  });
}

function events(org: string, from: number, count: number): NewEvent[] {
  return Array.from({ length: count }, (_, n) => newEvent(org, String(from + n)));
}

describe('atomic commit', () => {
  it('stores each batch whole, one after the other, in turns between orgs', async () => {
    const { atomic, batches, finish } = start();
    const answers = [
      atomic.add(events('1', 0, 2), 40_000),
      atomic.add(events('1', 2, 2), 40_000),
      atomic.add(events('1', 4, 1), 40_000),
      atomic.add(events('2', 5, 1), 100),
    ];
    // The first is being written.
    assert.equal(atomic.waitingEvents, 4);
    for (let i = 0; i < answers.length; i++) {
      assert.equal(batches.length, i + 1);
      await finish();
    }
    assert.deepEqual(batches, [['1:0', '1:1'], ['1:2', '1:3'], ['2:5'], ['1:4']]);
    const [first] = await Promise.all(answers);
    assert.equal(first?.length, 2);
    assert.deepEqual([atomic.waitingEvents, atomic.waitingBytes], [0, 0]);
    await atomic.stop();
  });

  it('refuses at once what there is no room for, and later what waited too long', async () => {
    const { clock, atomic, finish } = start();
    const written = atomic.add(events('1', 0, 1), 50_000);
    const waiting = atomic.add(events('1', 1, 1), 90_000);
    await assert.rejects(atomic.add(events('2', 2, 1), 10_000), { code: 'overloaded', retryAfterSeconds: 1 });
    assert.ok(atomic.waitingBytes <= limits.queueBytesMax);
    clock.advance(limits.queueAgeMsMax * 1.25 + 1);
    await assert.rejects(waiting, { code: 'overloaded', retryAfterSeconds: 1 });
    assert.deepEqual([atomic.waitingEvents, atomic.waitingBytes], [0, 0]);
    await finish();
    assert.equal((await written).length, 1);
    await atomic.stop();
  });

  it('passes a refusal on, calls any other failure internal, and goes on with the next', async () => {
    const { atomic, finish } = start();
    const answers = [0, 1, 2].map((n) => atomic.add(events('1', n, 1), 100));
    const settled = Promise.allSettled(answers);
    await finish(new Problem('storage_unavailable', 'gone'));
    await finish(new Error('the store broke its promise'));
    await finish();
    assert.deepEqual(
      (await settled).map((result) => (result.status === 'rejected' ? result.reason.code : 'stored')),
      ['storage_unavailable', 'internal', 'stored'],
    );
    await atomic.stop();
  });

  it('settles all that waits before it has stopped, and refuses what comes later, or while no event can be taken', async () => {
    let full: Problem | null = null;
    const { atomic, finish } = start(() => full);
    const answers = [0, 1].map((n) => atomic.add(events('1', n, 1), 100));
    full = new Problem('storage_unavailable', 'the disk is nearly full');
    await assert.rejects(atomic.add(events('1', 2, 1), 100), /nearly full/);
    full = null;
    let stopped = false;
    const stopping = atomic.stop().finally(() => {
      stopped = true;
    });
    await assert.rejects(atomic.add(events('1', 3, 1), 100), { code: 'storage_unavailable' });
    await finish();
    assert.equal(stopped, false);
    await finish();
    await stopping;
    assert.equal((await Promise.all(answers)).length, 2);
  });
});

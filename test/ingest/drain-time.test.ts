import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DrainTime } from '../../src/ingest/drain-time.js';
import { signal } from '../support/conformance.js';
import { TestClock } from '../support/test-clock.js';

describe('how long a queue takes to drain', () => {
  it('is judged by the batches of late: what was before a long rest says nothing', async () => {
    const clock = new TestClock();
    const drain = new DrainTime(clock, 5_000);
    const batch = async (ms: number, atItsBegin?: () => void): Promise<void> => {
      const ended = signal<undefined>();
      const measured = drain.measure(ended.promise);
      atItsBegin?.();
      clock.advance(ms);
      assert.equal(drain.elapsedMs, ms);
      ended.fire(undefined);
      await measured;
    };
    await batch(4_000);
    assert.deepEqual([drain.msFor(1), drain.elapsedMs], [4_000, 0]);
    clock.advance(5_000);
    assert.equal(drain.msFor(1), 4_000);
    clock.advance(1);
    assert.equal(drain.msFor(1), 0);
    await batch(10, () => assert.equal(drain.msFor(1), 0));
    assert.equal(drain.msFor(2), 20);
  });
});

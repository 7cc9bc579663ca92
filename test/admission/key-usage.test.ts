import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { KeyUsage } from '../../src/admission/key-usage.js';
import type { Database } from '../../src/db/database.js';
import { TestClock } from '../support/test-clock.js';

interface Recorded {
  readonly usage: KeyUsage;
  readonly clock: TestClock;
  /** Of each statement, the keys. */
  readonly written: string[][];
  readonly failures: unknown[];
  readonly failing: { next: boolean };
}

function record(): Recorded {
  const clock = new TestClock();
  const written: string[][] = [];
  const failures: unknown[] = [];
  const failing = { next: false };
  const query = (_scope: unknown, _statement: unknown, values: readonly unknown[]): Promise<unknown> => {
    if (failing.next) return Promise.reject(new Error('no storage'));
    written.push(values[1] as string[]);
    return Promise.resolve({ rows: [], rowCount: 0 });
  };
  // Nothing else of a database is asked of it.
  const database = { query } as unknown as Database;
  return { usage: new KeyUsage(database, clock, (error) => failures.push(error)), clock, written, failures, failing };
}

function use(usage: KeyUsage, keys: number): void {
  for (let key = 0; key < keys; key++) usage.used(String(1_000 + (key % 7)), `key-${key}`);
}

async function pass(clock: TestClock, ms: number): Promise<void> {
  clock.advance(ms);
  for (let turns = 0; turns < 5; turns++) await turn();
}

describe('the last uses of many keys', () => {
  it('are written in small statements with rests between them, each key once', async () => {
    const { usage, clock, written } = record();
    await usage.start();
    use(usage, 1_000);
    use(usage, 1_000);
    await pass(clock, 10_000);
    assert.deepEqual(sizes(written), [250]);
    await pass(clock, 99);
    assert.deepEqual(sizes(written), [250]);
    await pass(clock, 1);
    assert.deepEqual(sizes(written), [250, 250]);
    await pass(clock, 100);
    await pass(clock, 100);
    assert.deepEqual(sizes(written), [250, 250, 250, 250]);
    assert.equal(new Set(written.flat()).size, 1_000);
    await pass(clock, 60_000);
    assert.equal(written.length, 4);
    await usage.stop();
  });

  it('are all written before the node stops, at once, those used meanwhile behind them', async () => {
    const { usage, clock, written } = record();
    await usage.start();
    use(usage, 1_000);
    await pass(clock, 10_000);
    usage.used('1', 'late');
    await usage.stop();
    assert.deepEqual(sizes(written), [250, 750, 1]);
  });

  it('are forgotten where they cannot be written, with one report, and later ones are written', async () => {
    const { usage, clock, written, failures, failing } = record();
    await usage.start();
    use(usage, 1_000);
    await pass(clock, 10_000);
    failing.next = true;
    await pass(clock, 100);
    assert.equal(failures.length, 1);
    failing.next = false;
    use(usage, 3);
    await pass(clock, 10_000);
    assert.deepEqual(sizes(written), [250, 3]);
    await usage.stop();
  });

  it('are remembered of 10,000 keys at most', async () => {
    const { usage, written } = record();
    use(usage, 12_000);
    await usage.flush();
    assert.equal(written.flat().length, 10_000);
  });
});

function sizes(written: readonly (readonly string[])[]): number[] {
  return written.map((keys) => keys.length);
}

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SharedCounts } from '../../src/http/shared-counts.js';
import type { SubscriptionStats } from '../../src/subscriptions/peek.js';

interface Running {
  readonly org: string;
  readonly succeed: (stats: SubscriptionStats | null) => void;
  readonly fail: (error: Error) => void;
}

/** Counts that end when they are told to, in the order in which they began. */
function slowCounts() {
  const counts = new SharedCounts();
  const begun: Running[] = [];
  const ask = (org: string): Promise<SubscriptionStats | null> =>
    counts.of(org, 0, () => new Promise((succeed, fail) => void begun.push({ org, succeed, fail })));
  return { begun, ask };
}

/** What follows from a promise that has just been settled has happened. */
const settled = (): Promise<void> => new Promise((resume) => setImmediate(resume));

describe('counts of a backlog', () => {
  it('run one at a time for an org; whoever asks meanwhile shares one that begins after the question', async () => {
    const { begun, ask } = slowCounts();
    const first = ask('1');
    const others = Array.from({ length: 50 }, () => ask('1'));
    await settled();
    assert.equal(begun.length, 1);
    begun[0]?.succeed(null);
    assert.equal(await first, null);
    await settled();
    assert.equal(begun.length, 2);
    const later = ask('1');
    const counted = {} as SubscriptionStats;
    begun[1]?.succeed(counted);
    for (const answer of await Promise.all(others)) assert.equal(answer, counted);
    await settled();
    assert.equal(begun.length, 3, 'an old count answered a question that came while it ran');
    begun[2]?.succeed(null);
    assert.equal(await later, null);
  });

  it('of one org do not wait for those of another', async () => {
    const { begun, ask } = slowCounts();
    const answers = [ask('1'), ask('2')];
    assert.deepEqual(
      begun.map(({ org }) => org),
      ['1', '2'],
    );
    for (const { succeed } of begun) succeed(null);
    await Promise.all(answers);
  });

  it('that fail, fail for those that asked for them, and the next one is counted anew', async () => {
    const { begun, ask } = slowCounts();
    const first = ask('1');
    const second = ask('1');
    begun[0]?.fail(new Error('gone'));
    await assert.rejects(first, /gone/);
    await settled();
    begun[1]?.succeed(null);
    assert.equal(await second, null);
    const third = ask('1');
    assert.equal(begun.length, 3);
    begun[2]?.succeed(null);
    await third;
  });
});

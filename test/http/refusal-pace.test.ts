import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RefusalPace } from '../../src/http/refusal-pace.js';
import { TestClock } from '../support/test-clock.js';

describe('refusals over a rate limit', () => {
  it('leave at once where there are few, and half a millisecond apart where there are many', () => {
    const { clock, answered, refuse } = setUp();
    for (let i = 0; i < 3; i++) {
      refuse('1');
      assert.equal(answered.length, i + 1);
      clock.advance(1);
    }
    refuse('1', 1_001);
    const atOnce = answered.length;
    assert.ok(atOnce <= 3 + 2);
    clock.advance(100);
    assert.ok(Math.abs(answered.length - (atOnce + 200)) <= 2, `${answered.length} after 100 ms`);
    clock.advance(400);
    assert.equal(answered.length, 3 + 1_001);
    clock.advance(1);
    refuse('1');
    assert.equal(answered.length, 3 + 1_002);
  });

  it('wait a second at the most, in the order in which they were refused; beyond that they end their connection at once', () => {
    const { clock, answered, refuse } = setUp();
    refuse('1', 5_000);
    const last = answered.filter(({ isLast }) => isLast).length;
    assert.ok(Math.abs(last - 2_999) <= 2, `${last} ended their connection`);
    clock.advance(1_000);
    assert.equal(answered.length, 5_000);
    const inOrder = answered.filter(({ isLast }) => !isLast).map(({ index }) => index);
    assert.deepEqual(
      inOrder,
      Array.from({ length: 5_000 - last }, (_, i) => i),
    );
    // Those that ended their connection took nobody's turn.
    clock.advance(1);
    refuse('1');
    assert.deepEqual(answered.at(-1), { org: '1', index: 5_000, isLast: false });
  });

  it('wait for nothing but those of their own org', () => {
    const { answered, refuse } = setUp();
    refuse('1', 1_000);
    const before = answered.length;
    refuse('2');
    assert.deepEqual(answered.slice(before), [{ org: '2', index: 1_000, isLast: false }]);
  });

  it('leave at once, as the last on their connection, when 10,000 wait already', () => {
    const { clock, answered, refuse } = setUp();
    for (let org = 1; org <= 20; org++) refuse(String(org), 1_000);
    const waiting = (): number => 20_000 - answered.length;
    assert.equal(waiting(), 10_000);
    assert.ok(answered.filter(({ isLast }) => isLast).length > 9_000);
    clock.advance(1_000);
    assert.equal(waiting(), 0);
  });
});

function setUp() {
  const clock = new TestClock();
  const pace = new RefusalPace(clock);
  const answered: { readonly org: string; readonly index: number; readonly isLast: boolean }[] = [];
  let index = 0;
  const refuse = (org: string, times = 1): void => {
    for (let i = 0; i < times; i++) {
      const one = { org, index: index++ };
      pace.inTurn(org, (isLast) => answered.push({ ...one, isLast }));
    }
  };
  return { clock, answered, refuse };
}

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

  it('wait a second at the most, and in the order in which they were refused', () => {
    const { clock, answered, refuse } = setUp();
    refuse('1', 5_000);
    clock.advance(999);
    assert.ok(answered.length <= 2_001);
    clock.advance(1);
    assert.deepEqual(
      answered.map(({ index }) => index),
      Array.from({ length: 5_000 }, (_, i) => i),
    );
  });

  it('wait for nothing but those of their own org', () => {
    const { answered, refuse } = setUp();
    refuse('1', 1_000);
    const before = answered.length;
    refuse('2');
    assert.deepEqual(answered.slice(before), [{ org: '2', index: 1_000 }]);
  });

  it('leave at once when 10,000 wait already', () => {
    const { clock, answered, refuse } = setUp();
    for (let org = 1; org <= 20; org++) refuse(String(org), 1_000);
    const waiting = (): number => 20_000 - answered.length;
    assert.equal(waiting(), 10_000);
    clock.advance(1_000);
    assert.equal(waiting(), 0);
  });
});

function setUp() {
  const clock = new TestClock();
  const pace = new RefusalPace(clock);
  const answered: { readonly org: string; readonly index: number }[] = [];
  let index = 0;
  const refuse = (org: string, times = 1): void => {
    for (let i = 0; i < times; i++) {
      const one = { org, index: index++ };
      pace.inTurn(org, () => answered.push(one));
    }
  };
  return { clock, answered, refuse };
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Restarts, steadyMs } from '../../src/cli/restarts.js';

test('a worker that ends soon after its start is waited for longer each time, and given up after four times for each worker', () => {
  const restarts = new Restarts(2);
  const delays = Array.from({ length: 8 }, () => restarts.ended(0, false));
  assert.deepEqual(delays, [100, 100, 200, 200, 400, 400, 800, 800]);
  assert.equal(restarts.ended(0, false), null);
});

test('while another serves one is never given up, and waited for ten seconds at most', () => {
  const restarts = new Restarts(1);
  for (let i = 0; i < 1_000; i++) assert.ok((restarts.ended(0, true) ?? Infinity) <= 10_000);
  assert.equal(restarts.ended(0, true), 10_000);
  assert.equal(restarts.ended(0, false), null);
});

test('one that has served for long is started again at once, and what was before is forgotten', () => {
  const restarts = new Restarts(1);
  for (let i = 0; i < 4; i++) restarts.ended(steadyMs - 1, false);
  assert.equal(restarts.ended(steadyMs, false), 100);
  assert.equal(restarts.ended(0, false), 100);
});

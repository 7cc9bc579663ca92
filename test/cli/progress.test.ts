import assert from 'node:assert/strict';
import { test } from 'node:test';
import { amount, Progress } from '../../src/cli/progress.js';
import { TestClock } from '../support/test-clock.js';

/** What a command of `seconds` with 100 events a second writes, told of every half second. */
function writtenIn(seconds: number, isTTY: boolean): string {
  const clock = new TestClock();
  let written = '';
  const progress = new Progress(clock, { isTTY, write: (text: string) => (written += text) });
  for (let half = 0; half <= seconds * 2; half++) {
    // It goes on after an earlier try, which had brought a thousand.
    progress.at(1_000 + half * 50, () => `${half} halves`);
    clock.advance(500);
  }
  progress.end('done');
  return written;
}

test('on a terminal the progress is one line, written over every second', () => {
  assert.equal(
    writtenIn(2, true),
    '\r\u001b[K1100 events, 100/s, 2 halves\r\u001b[K1200 events, 100/s, 4 halves\r\u001b[Kdone\n',
  );
});

test('elsewhere it is a line every ten seconds', () => {
  assert.equal(writtenIn(21, false), '2000 events, 100/s, 20 halves\n3000 events, 100/s, 40 halves\ndone\n');
});

test('amounts are counted as people count', () => {
  assert.deepEqual(
    [0, 1, 2].map((count) => amount(count, 'org')),
    ['0 orgs', '1 org', '2 orgs'],
  );
});

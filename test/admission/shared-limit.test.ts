/** Several processes of one node give an org its limit once. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RateLimiter } from '../../src/admission/rate-limit.js';
import { Problem } from '../../src/errors.js';
import type { Spent } from '../../src/siblings.js';
import { SpentOutbox } from '../../src/siblings.js';
import type { Limits } from '../../src/tenancy/tiers.js';
import { TestClock } from '../support/test-clock.js';

const limits: Limits = { ratePerMinute: 60, burst: 50, mode: 'enforce' };

interface Process {
  readonly limiter: RateLimiter;
  /** Whether it grants one token. */
  grants(tokens?: number): boolean;
}

/** Two processes; told: each hears what the other grants. */
function setUp(isTold: boolean): { clock: TestClock; processes: readonly [Process, Process] } {
  const clock = new TestClock();
  const processOf = (other: () => Process): Process => {
    const outbox = new SpentOutbox(clock, async (spent) => {
      await Promise.resolve();
      other().limiter.spentElsewhere(spent);
    });
    const limiter = new RateLimiter(clock, undefined, isTold ? (spent) => outbox.add(spent) : undefined);
    return {
      limiter,
      grants(tokens = 1) {
        try {
          limiter.admit('1', limits, 'write', tokens);
          return true;
        } catch (error) {
          assert.ok(error instanceof Problem);
          return false;
        }
      },
    };
  };
  const processes: [Process, Process] = [processOf(() => processes[1]), processOf(() => processes[0])];
  return { clock, processes };
}

/** How many of `count` requests are granted, in turn by one and by the other, `everyMs` apart. */
async function granted(isTold: boolean, count: number, everyMs: number): Promise<number> {
  const { clock, processes } = setUp(isTold);
  let total = 0;
  for (let i = 0; i < count; i++) {
    if (processes[i % 2]?.grants() === true) total++;
    clock.advance(everyMs);
    // Messages are promises here.
    await new Promise(setImmediate);
  }
  return total;
}

describe('two processes that tell each other', () => {
  it('grant one burst and one rate, but for what they granted unheard', async () => {
    // 2 s of requests, 10 ms apart.
    const total = await granted(true, 200, 10);
    assert.ok(total >= 50 + 1 && total <= 50 + 2 + 5, `${total}`);
  });

  it('and without being told, twice as much, so that the test above can fail', async () => {
    assert.ok((await granted(false, 200, 10)) >= 100);
  });

  it('owe what they granted at the same moment, so that the rate holds in the long run', async () => {
    const { clock, processes } = setUp(true);
    assert.deepEqual(
      processes.map((one) => one.grants(50)),
      [true, true],
    );
    await new Promise(setImmediate);
    // 100 of a burst of 50 are gone. What is owed, 50, is refilled first.
    clock.advance(50_000);
    assert.deepEqual(
      processes.map((one) => one.grants()),
      [false, false],
    );
    clock.advance(1_000);
    assert.equal(processes[0].grants(), true);
  });

  it('know of a bucket that they have not seen themselves', async () => {
    const { processes } = setUp(true);
    assert.equal(processes[0].grants(50), true);
    await new Promise(setImmediate);
    assert.equal(processes[1].grants(), false);
  });
});

describe('what is to be told', () => {
  const spent = (bucket: string, tokens: number): Spent => ({ bucket, tokens, ratePerMinute: 60, burst: 50 });

  it('goes out at once, then added up every 25 ms, and not while the last message is on its way', async () => {
    const clock = new TestClock();
    const sent: (readonly Spent[])[] = [];
    let written = (): void => {};
    const outbox = new SpentOutbox(clock, (message) => {
      sent.push(message);
      return new Promise((resolve) => {
        written = resolve;
      });
    });
    for (let i = 0; i < 3; i++) outbox.add(spent('a', 1));
    assert.deepEqual(sent, [[spent('a', 1)]]);
    clock.advance(1_000);
    assert.equal(sent.length, 1);
    written();
    await new Promise(setImmediate);
    clock.advance(25);
    assert.deepEqual(sent[1], [spent('a', 2)]);
  });

  it('is bounded, in one message and in what waits', async () => {
    const clock = new TestClock();
    let told = 0;
    let longest = 0;
    const outbox = new SpentOutbox(clock, async (message) => {
      told += message.length;
      longest = Math.max(longest, message.length);
    });
    for (let i = 0; i < 20_000; i++) outbox.add(spent(String(i), 1));
    for (let i = 0; i < 100; i++) {
      await new Promise(setImmediate);
      clock.advance(25);
    }
    assert.deepEqual([told, longest], [10_001, 500]);
  });
});

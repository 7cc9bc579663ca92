import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { StorageError } from '../../src/db/database.js';
import type { Scope } from '../../src/db/database.js';
import { SessionPool } from '../../src/db/session-pool.js';
import type { WireSession } from '../../src/db/wire-session.js';
import { SessionQueue } from '../../src/db/session-queue.js';
import { signal } from '../support/conformance.js';
import { TestClock } from '../support/test-clock.js';

describe('the queue for a session', () => {
  test('serves orgs in turns, each in order, everybody once, and knows how many are before the next', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ org: fc.constantFrom('a', 'b', 'c', 'd') }) },
      { weight: 1, arbitrary: fc.constant('take' as const) },
      { weight: 1, arbitrary: fc.record({ leaves: fc.nat(20) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const queue = new SessionQueue<{ readonly org: string }>();
        const waiting: { readonly org: string }[] = [];
        const take = (): void => {
          const taken = queue.take();
          assert.equal(taken, taken && waiting.find(({ org }) => org === taken.org), 'not the first of its org');
          if (taken) waiting.splice(waiting.indexOf(taken), 1);
        };
        for (const what of steps) {
          if (what === 'take') take();
          else if ('org' in what) {
            const waiter = { org: what.org };
            queue.add(what.org, waiter);
            waiting.push(waiter);
          } else {
            const [leaver] = waiting.splice(what.leaves, 1);
            if (leaver) queue.delete(leaver.org, leaver);
          }
          assert.equal(queue.size, waiting.length);
        }
        const late = { org: 'a' };
        const ahead = queue.ahead('a');
        queue.add('a', late);
        for (let served = 0; ; served++) {
          if (queue.take() !== late) continue;
          assert.ok(served <= ahead + 3, `${served} were served before it, not ${ahead} and one of each other org`);
          break;
        }
      }),
    );
  });

  test('keeps room for an org of which nobody waits, while others crowd it', () => {
    const queue = new SessionQueue<number>();
    for (let i = 0; queue.hasRoom('crowd', 1_000); i++) queue.add('crowd', i);
    assert.equal(queue.size, 875);
    assert.ok(queue.hasRoom('single', 1_000));
    for (let i = 0; queue.hasRoom(`org ${i}`, 1_000); i++) queue.add(`org ${i}`, i);
    assert.equal(queue.size, 1_000);
  });
});

/** A pool of two sessions in which all work takes as long as the test lets it. */
function slowPool() {
  const clock = new TestClock();
  const working: (() => void)[] = [];
  const session = {
    usable: true,
    ended: new Promise(() => {}),
    transaction: async () => {
      const end = signal();
      working.push(end.fire);
      await end.promise;
    },
  };
  const open = () => Promise.resolve({ ...session } as unknown as WireSession);
  const pool = new SessionPool({ clock, sessionsMax: 2, waitersMax: 10_000, waitMsMax: 5_000, open });
  const settled = (): Promise<void> => new Promise((resume) => setImmediate(resume));
  return {
    clock,
    pool,
    settled,
    ask: (scope: Scope) => pool.transaction(scope, () => Promise.resolve()),
    /** Work that is under way takes so long, and ends. */
    async end(ms: number) {
      await settled();
      clock.advance(ms);
      for (const finish of working.splice(0)) finish();
      await settled();
    },
  };
}

const read = (org: string): Scope => ({ role: 'app', org, priority: 'read' });
const write = (org: string): Scope => ({ role: 'app', org });
const isOverloaded = (error: unknown): boolean =>
  error instanceof StorageError && error.kind === 'overloaded' && (error.retryAfterSeconds ?? 0) >= 1;

describe('work that would wait too long for a session', () => {
  /** After this, work takes half a second or somewhat less. */
  const slowed = async () => {
    const slow = slowPool();
    for (let i = 0; i < 100; i++) {
      const done = Promise.all([slow.ask(write('1')), slow.ask(write('1'))]);
      await slow.end(500);
      await done;
    }
    return slow;
  };

  test('is refused at once with the time until what waits is done: reads first, and never for the crowd of another org', async () => {
    const slow = await slowed();
    const outcomes = Array.from({ length: 30 }, () => slow.ask(read('1')).catch((error: unknown) => error));
    await slow.settled();
    assert.ok(slow.pool.waiting >= 13 && slow.pool.waiting <= 19, `${slow.pool.waiting} wait`);
    const refusal = await Promise.race(outcomes);
    assert.ok(refusal instanceof StorageError && isOverloaded(refusal));
    assert.ok(refusal.retryAfterSeconds === 4 || refusal.retryAfterSeconds === 5);
    const others = [
      slow.ask(write('1')),
      slow.ask(read('2')),
      slow.ask({ role: 'system' }),
      slow.ask({ role: 'ingest' }),
    ];
    for (let i = 0; i < 14; i++) await slow.end(500);
    await Promise.all(others);
    assert.ok((await Promise.all(outcomes)).filter(isOverloaded).length === slow.pool.stats().refused);
    // When what waited is done, there is room.
    const again = slow.ask(read('1'));
    await slow.end(1);
    await again;
  });

  test('is not refused where work is quick, however much there is', async () => {
    const slow = slowPool();
    const all = Array.from({ length: 1_000 }, () => slow.ask(read('1')));
    while (slow.pool.waiting + slow.pool.inUse > 0) await slow.end(1);
    await Promise.all(all);
    assert.equal(slow.pool.stats().refused, 0);
  });
});

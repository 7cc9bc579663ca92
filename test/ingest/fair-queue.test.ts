import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { FairQueue, turnCost } from '../../src/ingest/fair-queue.js';
import { QueueRoom } from '../../src/ingest/queue-room.js';

interface Item {
  readonly org: string;
  readonly bytes: number;
  readonly cost: number;
  readonly enqueuedAtMs: number;
  readonly number: number;
}

const orgs = ['a', 'b', 'c', 'd'];
const sizes = fc.oneof(fc.integer({ min: 1, max: 3_000 }), fc.integer({ min: 1, max: 5 * turnCost }));
const adding = fc.record({ kind: fc.constant('add' as const), org: fc.constantFrom(...orgs), bytes: sizes });
const taking = fc.record({
  kind: fc.constant('take' as const),
  itemsMax: fc.integer({ min: 1, max: 40 }),
  turnsMax: fc.constantFrom(1, 2, Infinity),
  bytesMax: fc.integer({ min: 1, max: 8 * turnCost }),
});
const expiring = fc.record({ kind: fc.constant('expire' as const), ageMs: fc.integer({ min: 0, max: 60 }) });
const steps = fc.array(
  fc.oneof({ weight: 8, arbitrary: adding }, { weight: 2, arbitrary: taking }, { weight: 1, arbitrary: expiring }),
  { maxLength: 200 },
);
const bytesMax = 40 * turnCost;

describe('the fair queue', () => {
  it('keeps the order within an org, its bounds, and every item exactly once, whatever comes and goes', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const queue = new FairQueue<Item>(new QueueRoom(bytesMax));
        const waiting: Item[] = [];
        const leave = (items: readonly Item[]): void => {
          for (const item of items) {
            const first = waiting.findIndex(({ org }) => org === item.org);
            assert.equal(waiting[first], item, 'not the first of its org that waits');
            waiting.splice(first, 1);
          }
        };
        for (const [now, step] of all.entries()) {
          if (step.kind === 'add') {
            const item = { org: step.org, bytes: step.bytes, cost: step.bytes, enqueuedAtMs: now, number: now };
            const free = bytesMax - sum(waiting);
            const ofOrg = sum(waiting.filter(({ org }) => org === item.org));
            const isReserved = free - item.bytes < bytesMax / 8;
            const fits = item.bytes <= free && (!isReserved || ofOrg < bytesMax / 256);
            assert.equal(queue.add(item), fits);
            if (fits) waiting.push(item);
          } else if (step.kind === 'take') {
            const batch = queue.take(step.itemsMax, step.bytesMax, step.turnsMax);
            assert.ok(batch.length <= step.itemsMax);
            assert.ok(batch.length === 1 || sum(batch) <= step.bytesMax);
            assert.ok(batch.length > 0 || waiting.length === 0);
            leave(batch);
          } else {
            const expired = queue.takeOlder(now - step.ageMs);
            assert.deepEqual(
              new Set(expired),
              new Set(waiting.filter(({ enqueuedAtMs }) => enqueuedAtMs < now - step.ageMs)),
            );
            leave(expired);
          }
          assert.deepEqual([queue.size, queue.bytes], [waiting.length, sum(waiting)]);
        }
        leave(queue.take(Infinity, Infinity));
        assert.deepEqual(waiting, []);
      }),
      { numRuns: 300 },
    );
  });

  it('fills a batch as far as its bounds and what waits allow', () => {
    const queue = new FairQueue<Item>(new QueueRoom(bytesMax));
    for (let number = 0; number < 10; number++) queue.add({ org: 'a', bytes: 10, cost: 10, enqueuedAtMs: 0, number });
    assert.equal(queue.take(4, 1_000).length, 4);
    assert.equal(queue.take(100, 35).length, 3);
    assert.equal(queue.take(100, 1_000).length, 3);
    assert.deepEqual(queue.take(100, 1_000), []);
  });

  it('delays the single event of one org by at most one turn of each flooding org, however small the batches are', () => {
    const flood = fc.record({
      floods: fc.array(fc.integer({ min: 100, max: 2 * turnCost }), { minLength: 1, maxLength: 5 }),
      bytes: fc.integer({ min: 1, max: turnCost }),
      takenBefore: fc.integer({ min: 0, max: 20 }),
      itemsMax: fc.integer({ min: 1, max: 1_000 }),
      bytesMax: fc.integer({ min: 1, max: 10 * turnCost }),
      turnsMax: fc.constantFrom(1, 2, Infinity),
    });
    fc.assert(
      fc.property(flood, ({ floods, bytes, takenBefore, itemsMax, bytesMax: batchBytesMax, turnsMax }) => {
        const queue = new FairQueue<Item>(new QueueRoom(Infinity));
        for (const [org, size] of floods.entries()) {
          for (let number = 0; number * size < 60 * turnCost; number++) {
            queue.add({ org: `flood ${org}`, bytes: size, cost: size, enqueuedAtMs: 0, number });
          }
        }
        for (let i = 0; i < takenBefore; i++) queue.take(itemsMax, batchBytesMax, turnsMax);
        queue.add({ org: 'single', bytes, cost: bytes, enqueuedAtMs: 0, number: 0 });
        const ahead = new Map<string, number>();
        for (;;) {
          const batch = queue.take(itemsMax, batchBytesMax, turnsMax);
          const own = batch.findIndex(({ org }) => org === 'single');
          for (const item of own === -1 ? batch : batch.slice(0, own)) {
            ahead.set(item.org, (ahead.get(item.org) ?? 0) + item.bytes);
          }
          if (own !== -1) break;
        }
        for (const [org, size] of floods.entries()) {
          const before = ahead.get(`flood ${org}`) ?? 0;
          assert.ok(before <= turnCost + size, `${before} bytes of one flood went ahead`);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('takes no more than a turn of each org, if told to, and at least one item', () => {
    const queue = new FairQueue<Item>(new QueueRoom(Infinity));
    const cost = turnCost / 4;
    for (let number = 0; number < 10; number++) {
      for (const org of ['a', 'b']) queue.add({ org, bytes: 1, cost, enqueuedAtMs: 0, number });
    }
    const orgsOf = (items: readonly Item[]): string => items.map(({ org }) => org).join('');
    assert.equal(orgsOf(queue.take(100, 100, 1)), 'aaaabbbb');
    assert.equal(orgsOf(queue.take(2, 100, 1)), 'aa');
    assert.equal(orgsOf(queue.take(100, 100, 1)), 'aabbbb');
    assert.equal(orgsOf(queue.take(100, 100)), 'aabb');
    queue.add({ org: 'large', bytes: 1, cost: 5 * turnCost, enqueuedAtMs: 0, number: 0 });
    assert.equal(queue.take(100, 100, 1).length, 1);
  });

  it('knows how many turns an org needs; its room, whether several orgs have come of late to any queue of it', () => {
    const room = new QueueRoom(Infinity);
    const [queue, beside] = [new FairQueue<Item>(room), new FairQueue<Item>(room)];
    const add = (to: FairQueue<Item>, org: string, enqueuedAtMs: number) =>
      to.add({ org, bytes: 1, cost: turnCost / 2, enqueuedAtMs, number: 0 });
    add(queue, 'a', 10);
    // The first is no change.
    assert.equal(room.isSharedSince(0), false);
    add(beside, 'b', 20);
    add(beside, 'b', 30);
    assert.equal(room.isSharedSince(20), true);
    assert.equal(room.isSharedSince(21), false);
    assert.deepEqual(
      ['a', 'b', 'c'].map((org) => queue.turnsOf(org) + beside.turnsOf(org)),
      [0.5, 1, 0],
    );
  });

  it('has room for the single event of an org, however many others flood it', () => {
    for (const floods of [1, 2, 20]) {
      const queue = new FairQueue<Item>(new QueueRoom(1_000_000));
      for (let turn = 0; turn < 3; turn++) {
        for (let i = 0; i < floods; i++) {
          while (queue.add({ org: `flood ${i}`, bytes: 1_000, cost: 1_000, enqueuedAtMs: 0, number: 0 }));
        }
      }
      assert.ok(queue.bytes > 850_000, `${floods} floods may use the most of it`);
      assert.ok(queue.add({ org: 'single', bytes: 1_000, cost: 1_000, enqueuedAtMs: 0, number: 0 }));
      assert.ok(!queue.add({ org: 'flood 0', bytes: 10_000, cost: 10_000, enqueuedAtMs: 0, number: 0 }));
    }
  });

  it('keeps its order also after thousands of items have come and gone', () => {
    const queue = new FairQueue<Item>(new QueueRoom(Infinity));
    let taken = 0;
    for (let number = 0; number < 10_000; number++) {
      queue.add({ org: 'a', bytes: 1, cost: 1, enqueuedAtMs: number, number });
      if (number % 3 === 0) continue;
      for (const item of queue.take(1, 10)) assert.equal(item.number, taken++);
    }
    for (const item of queue.take(Infinity, Infinity)) assert.equal(item.number, taken++);
    assert.equal(taken, 10_000);
  });

  it('gives an org one turn and no more, also if all that waited of it has expired or gone to another queue meanwhile', () => {
    const room = new QueueRoom(Infinity);
    const cost = turnCost / 4;
    const leave: ((queue: FairQueue<Item>) => void)[] = [
      (queue) => assert.equal(queue.takeOlder(1).length, 8),
      (queue) => queue.moveTo(new FairQueue<Item>(room), (org) => org === 'a'),
      (queue) => assert.equal(queue.take(8, 100, 2).length, 8),
    ];
    for (const empty of leave) {
      const queue = new FairQueue<Item>(room);
      const add = (org: string, items: number, enqueuedAtMs: number): void => {
        for (let number = 0; number < items; number++) queue.add({ org, bytes: 1, cost, enqueuedAtMs, number });
      };
      add('a', 8, 0);
      empty(queue);
      assert.deepEqual([queue.has('a'), queue.size], [false, 0]);
      add('a', 8, 2);
      add('b', 8, 2);
      const next = (): string => queue.take(100, 100, 1).reduce((all, { org }) => all + org, '');
      assert.deepEqual([queue.ahead('a').items, next(), next()], [16, 'aaaabbbb', 'aaaabbbb']);
    }
  });

  it('keeps nothing of what has left, also while more waits', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const queue = new FairQueue<Item>(new QueueRoom(Infinity));
    const items = Array.from({ length: 101 }, (_, number) => {
      const item = { org: 'a', bytes: 1, cost: 1, enqueuedAtMs: 0, number };
      queue.add(item);
      return new WeakRef(item);
    });
    assert.equal(queue.take(100, 100).length, 100);
    // What a reference has shown lives until the end of its turn.
    await new Promise((resume) => {
      setImmediate(resume);
    });
    collect();
    assert.deepEqual(
      items.flatMap((item) => item.deref()?.number ?? []),
      [100],
    );
  });

  it('forgets orgs of which nothing waits, in the end, and never one of which something does', () => {
    const queue = new FairQueue<Item>(new QueueRoom(Infinity));
    const add = (org: string, number: number) => queue.add({ org, bytes: 1, cost: 1, enqueuedAtMs: 0, number });
    add('org 0', 0);
    for (let number = 1; number <= 40_000; number++) {
      assert.ok(add(`org ${number}`, number));
      assert.deepEqual(
        queue.take(1, 1).map((item) => item.number),
        [number - 1],
      );
      assert.deepEqual([queue.has(`org ${number - 1}`), queue.has(`org ${number}`), queue.size], [false, true, 1]);
    }
    assert.ok(queue.orgs < 20_000, `${queue.orgs} orgs are remembered`);
  });
});

function sum(items: readonly Item[]): number {
  return items.reduce((total, { bytes }) => total + bytes, 0);
}

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { Database } from '../../src/db/database.js';
import { PositionSet } from '../../src/subscriptions/position-set.js';
import { openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const ascending = (positions: Iterable<number>): number[] => [...new Set(positions)].toSorted((a, b) => a - b);
const setOf = (positions: Iterable<number>): PositionSet => PositionSet.of(ascending(positions));
/** Close together, so that ranges touch, overlap and have holes; and some as great as a position can be. */
const positions = fc.oneof(
  fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 40 }),
  fc.array(fc.integer({ min: 2 ** 48 - 20, max: 2 ** 48 - 2 }), { maxLength: 20 }),
);
const position = fc.oneof(fc.integer({ min: 0, max: 42 }), fc.integer({ min: 2 ** 48 - 22, max: 2 ** 48 - 1 }));

/** The members, one by one; and that the ranges are what PostgreSQL calls canonical: sorted, not empty, not touching. */
function members(set: PositionSet): number[] {
  const all: number[] = [];
  let end = -1;
  for (const [from, until] of set.ranges) {
    assert.ok(from > end && until > from, `not canonical: ${set.toString()}`);
    for (let member = from; member < until; member++) all.push(member);
    end = until;
  }
  return all;
}

describe('a position set', () => {
  test('holds what a set of numbers holds', () => {
    fc.assert(
      fc.property(positions, position, (list, probe) => {
        const [set, model] = [setOf(list), new Set(list)];
        assert.deepEqual(members(set), ascending(model));
        assert.equal(set.size, model.size);
        assert.equal(set.isEmpty, model.size === 0);
        assert.equal(set.has(probe), model.has(probe));
        assert.equal(set.last, ascending(model).at(-1) ?? null);
      }),
    );
  });

  test('unites, subtracts and cuts as a set of numbers does', () => {
    fc.assert(
      fc.property(positions, positions, positions, position, (a, b, c, at) => {
        const [first, second] = [setOf(a), setOf(b)];
        assert.deepEqual(members(PositionSet.union([first, second, setOf(c)])), ascending([...a, ...b, ...c]));
        assert.deepEqual(members(first.minus(second)), ascending(a.filter((member) => !b.includes(member))));
        assert.deepEqual(members(first.after(at)), ascending(a.filter((member) => member > at)));
        assert.deepEqual(members(first.upTo(at)), ascending(a.filter((member) => member <= at)));
      }),
    );
  });

  test('splits into its first members or ranges and the rest', () => {
    fc.assert(
      fc.property(positions, fc.integer({ min: 0, max: 45 }), (list, count) => {
        const set = setOf(list);
        const all = members(set);
        const [first, rest] = set.splitAt(count);
        assert.deepEqual([members(first), members(rest)], [all.slice(0, count), all.slice(count)]);
        const [ranges, others] = set.firstRanges(count);
        assert.deepEqual([...ranges.ranges, ...others.ranges], set.ranges);
        assert.equal(ranges.ranges.length, Math.min(count, set.ranges.length));
      }),
    );
  });

  test('of a range holds every position from its start, below its end', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 30 }), (from, until) => {
        const expected = Array.from({ length: Math.max(0, until - from) }, (_, i) => from + i);
        assert.deepEqual(members(PositionSet.range(from, until)), expected);
      }),
    );
  });

  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let database: Database;
      before(async () => {
        storage = await createStorage(engine);
        if (storage !== null) database = await openLog(storage);
      });
      after(async () => {
        if (storage === null) return;
        await database.close();
        await storage.remove();
      });

      const algebra = {
        name: 'test_multirange',
        text: `SELECT ($1::int8multirange)::text AS same, ($1::int8multirange + $2::int8multirange)::text AS sum,
          ($1::int8multirange - $2::int8multirange)::text AS difference`,
      };

      test('writes and reads the text of an int8multirange, and computes what the database computes', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const check = async (a: readonly number[], b: readonly number[]): Promise<void> => {
          const [first, second] = [setOf(a), setOf(b)];
          const { rows } = await database.query<{ same: string; sum: string; difference: string }>(
            { role: 'app' },
            algebra,
            [first.toString(), second.toString()],
          );
          assert.deepEqual(rows[0], {
            same: first.toString(),
            sum: PositionSet.union([first, second]).toString(),
            difference: first.minus(second).toString(),
          });
          assert.deepEqual(PositionSet.parse(rows[0]?.same ?? '').ranges, first.ranges);
        };
        await fc.assert(fc.asyncProperty(positions, positions, check), { numRuns: 100 });
      });
    });
  }
  after(stopServers);
});

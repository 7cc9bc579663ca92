import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { comparePairs, percentile, seededRandom, short, spreadOf } from '../../bench/numbers.js';

/** Ratios around `middle`, as noisy as rounds of a busy machine: most within 4 %, one in eight far off. */
function noisyPairs(middle: number, pairs: number, random: () => number): number[] {
  return Array.from({ length: pairs }, () => {
    const noise = (random() + random() + random() - 1.5) / 15;
    return middle * Math.exp(random() < 0.125 ? noise * 8 : noise);
  });
}

describe('comparing two commits', () => {
  const [pairs, threshold, trials, seed] = [12, 0.07, 100, 20_261_122];

  test('a commit against itself is rarely a difference', () => {
    const random = seededRandom(seed);
    const alarms = Array.from({ length: trials }, () => comparePairs(noisyPairs(1, pairs, random), threshold)).filter(
      ({ verdict }) => verdict !== 'no difference shown',
    );
    assert.ok(alarms.length <= trials * 0.02, `${alarms.length} alarms in ${trials} trials, seed ${seed}`);
  });

  test('a slowdown of a fifth is found, in either direction', () => {
    const random = seededRandom(seed);
    for (const [middle, verdict] of [
      [1 / 1.2, 'slower'],
      [1.2, 'faster'],
    ] as const) {
      const found = Array.from({ length: trials }, () => comparePairs(noisyPairs(middle, pairs, random), threshold));
      const right = found.filter((comparison) => comparison.verdict === verdict).length;
      assert.ok(right >= trials * 0.98, `${verdict} was found in ${right} of ${trials} trials, seed ${seed}`);
    }
  });

  test('the interval holds the true ratio about as often as it says', () => {
    const random = seededRandom(seed);
    const held = Array.from({ length: trials }, () => comparePairs(noisyPairs(0.9, pairs, random), threshold)).filter(
      ({ low, high }) => low <= 0.9 && high >= 0.9,
    ).length;
    assert.ok(held >= trials * 0.88, `${held} of ${trials} intervals, seed ${seed}`);
  });

  test('a few pairs are no evidence, however far apart', () => {
    assert.equal(comparePairs([0.5, 0.5, 0.5, 0.5], threshold).verdict, 'no difference shown');
  });
});

test('a percentile is a value that was seen, and of nothing there is none', () => {
  const numbers = Array.from({ length: 1000 }, (_, i) => 1000 - i);
  assert.deepEqual(
    [0.5, 0.99, 0.999, 1].map((share) => percentile(numbers, share)),
    [501, 991, 1000, 1000],
  );
  assert.ok(Number.isNaN(percentile([], 0.5)));
});

test('a figure that is not there is left out, not counted as nothing', () => {
  assert.deepEqual(spreadOf([3, null, 1, 2]), { median: 2, min: 1, max: 3 });
  assert.equal(spreadOf([null, NaN]), null);
  assert.deepEqual(
    [short(null), short(0), short(0.012345), short(12.34), short(48_765)],
    ['–', '0', '0.0123', '12.3', '48,800'],
  );
});

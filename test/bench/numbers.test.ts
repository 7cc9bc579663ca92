import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compareStarts, percentile, seededRandom, short, spreadOf } from '../../bench/numbers.js';

/** Ratios around `middle`: those of a start are off by some 4 % together, and by 7 % each; one in eight is far off, as on a busy machine. */
function noisyStarts(middle: number, starts: number, random: () => number): number[][] {
  const noise = (deviation: number): number => (random() + random() + random() - 1.5) * 2 * deviation;
  return Array.from({ length: starts }, () => {
    const ofStart = noise(0.04);
    return Array.from({ length: 3 }, () => middle * Math.exp(ofStart + noise(random() < 0.125 ? 0.3 : 0.07)));
  });
}

describe('comparing two commits', () => {
  const [starts, threshold, trials, seed] = [10, 0.07, 200, 20_261_122];
  const compared = (middle: number): ReturnType<typeof compareStarts>[] => {
    const random = seededRandom(seed);
    return Array.from({ length: trials }, () => compareStarts(noisyStarts(middle, starts, random), threshold));
  };

  test('a commit against itself is rarely a difference', () => {
    const alarms = compared(1).filter(({ verdict }) => verdict !== 'no difference shown').length;
    assert.ok(alarms <= trials * 0.02, `${alarms} alarms in ${trials} trials, seed ${seed}`);
  });

  test('a slowdown of a fifth is found, in either direction', () => {
    for (const [middle, verdict] of [
      [1 / 1.2, 'slower'],
      [1.2, 'faster'],
    ] as const) {
      const right = compared(middle).filter((comparison) => comparison.verdict === verdict).length;
      assert.ok(right >= trials * 0.98, `${verdict} was found in ${right} of ${trials} trials, seed ${seed}`);
    }
  });

  test('the interval holds the true ratio as often as it says', () => {
    const held = compared(0.9).filter(({ low, high }) => low <= 0.9 && high >= 0.9).length;
    assert.ok(held >= trials * 0.92 && held < trials, `${held} of ${trials} intervals, seed ${seed}`);
  });

  test('pairs of one start are no evidence, however many: two processes differ for as long as they live', () => {
    const random = seededRandom(seed);
    const asIfStarts = Array.from({ length: trials }, () => {
      const ofStart = noisyStarts(1, 1, random)[0]?.[0] ?? NaN;
      return Array.from({ length: 30 }, () => [ofStart * Math.exp((random() - 0.5) / 50)]);
    });
    // Each pair taken for a start of its own: the difference of the two processes is taken for one of the programs.
    const alarms = asIfStarts.filter(
      (pairs) => compareStarts(pairs, threshold).verdict !== 'no difference shown',
    ).length;
    assert.ok(alarms > trials * 0.1, `${alarms} alarms in ${trials} trials, seed ${seed}`);
    assert.ok(asIfStarts.every((pairs) => compareStarts([pairs.flat()], threshold).verdict === 'no difference shown'));
  });

  test('a few starts are no evidence, however far apart', () => {
    assert.equal(compareStarts([[0.5], [0.5], [0.5], [0.5]], threshold).verdict, 'no difference shown');
    assert.equal(compareStarts([[0.5], [0.5], [0.5], [0.5], [0.5]], threshold).verdict, 'slower');
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

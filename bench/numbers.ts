/** The statistics of the benchmark: nothing here knows what is measured. */

/** The middle value; the upper one of two. NaN of nothing. */
export function median(numbers: readonly number[]): number {
  return percentile(numbers, 0.5);
}

/** The value below which `share` (0 to 1) of the numbers lie. NaN of nothing. */
export function percentile(numbers: readonly number[], share: number): number {
  return ofSorted(
    numbers.toSorted((a, b) => a - b),
    share,
  );
}

/** As `percentile`, of numbers that are in order already. */
export function ofSorted(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/** The median with the smallest and the largest value seen. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Null where there is nothing to say: a figure that this machine or this target does not give. */
export function spreadOf(numbers: readonly (number | null)[]): Spread | null {
  const known = numbers.filter((number) => number !== null && Number.isFinite(number)) as number[];
  if (known.length === 0) return null;
  return { median: median(known), min: Math.min(...known), max: Math.max(...known) };
}

export interface Comparison {
  /** The median of the pairs' ratios. */
  readonly ratio: number;
  /** Between these lies the ratio with a confidence of 95 %. */
  readonly low: number;
  readonly high: number;
  readonly verdict: 'slower' | 'faster' | 'no difference shown';
}

const resamples = 1_000;

/**
 * Compares rounds measured in pairs: each ratio is this side by the other in one moment of the machine, so that its drift counts for both. The
 * interval is a percentile bootstrap (Efron 1979) over the pairs. A verdict needs both: a median beyond `threshold` (0.05: five per cent), and an
 * interval that leaves out 1. With fewer than five pairs there is none.
 */
export function comparePairs(ratios: readonly number[], threshold: number, random = seededRandom(1)): Comparison {
  const logs = ratios.map((ratio) => Math.log(ratio));
  const medians = Float64Array.from({ length: resamples }, () => {
    const sample = logs.map(() => logs[Math.floor(random() * logs.length)] ?? NaN);
    return middle(sample);
  }).toSorted();
  const ratio = Math.exp(middle(logs));
  const [low, high] = [Math.exp(ofSorted(medians, 0.025)), Math.exp(ofSorted(medians, 0.975))];
  let verdict: Comparison['verdict'] = 'no difference shown';
  if (ratios.length >= pairsMin && ratio < 1 - threshold && high < 1) verdict = 'slower';
  if (ratios.length >= pairsMin && ratio > 1 / (1 - threshold) && low > 1) verdict = 'faster';
  return { ratio, low, high, verdict };
}

const pairsMin = 5;

/** Between the two middle ones where their number is even: pairs alternate in who goes first, and neither order may win. */
function middle(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return ((sorted[Math.floor(half)] ?? NaN) + (sorted[Math.ceil(half) - 1] ?? NaN)) / 2;
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32, public domain): a verdict can be had again. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Three digits that mean something: 1234.5 is "1,230", 0.01234 is "0.0123". */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  const rounded = Math.abs(value) >= 1000 ? Number(value.toPrecision(3)) : value;
  return rounded.toLocaleString('en-US', { maximumFractionDigits: Math.min(digits, 6) });
}

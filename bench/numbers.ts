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
  /** The geometric mean of the starts' ratios. */
  readonly ratio: number;
  /** Between these lies the ratio with a confidence of 95 %. NaN with fewer than five starts. */
  readonly low: number;
  readonly high: number;
  readonly verdict: 'slower' | 'faster' | 'no difference shown';
}

/**
 * Compares two programs by rounds measured in pairs, some pairs on each start of both. A ratio is this side by the other in one moment of the machine, so that
 * its drift counts for both. Two processes of one program differ for as long as they live, so a start counts once, with the middle of its pairs, and the interval
 * is Student's t over the starts. A verdict needs both: a ratio beyond `threshold` (0.05: five per cent), and an interval that leaves out 1. With fewer than
 * five starts there is none.
 */
export function compareStarts(starts: readonly (readonly number[])[], threshold: number): Comparison {
  const logs = starts.map((ratios) => middle(ratios.map((ratio) => Math.log(ratio))));
  const mean = meanOf(logs);
  const variance = (meanOf(logs.map((log) => (log - mean) ** 2)) * logs.length) / (logs.length - 1);
  const margin = (starts.length < startsMin ? NaN : studentsT(logs.length - 1)) * Math.sqrt(variance / logs.length);
  const [ratio, low, high] = [Math.exp(mean), Math.exp(mean - margin), Math.exp(mean + margin)];
  let verdict: Comparison['verdict'] = 'no difference shown';
  if (starts.length >= startsMin && ratio < 1 - threshold && high < 1) verdict = 'slower';
  if (starts.length >= startsMin && ratio > 1 / (1 - threshold) && low > 1) verdict = 'faster';
  return { ratio, low, high, verdict };
}

/** With fewer there is no verdict, and no interval. */
export const startsMin = 5;

/** Beyond it, in either direction, lies a twentieth of Student's distribution (its expansion at the normal one's, from four degrees on, Abramowitz and Stegun 26.7.5). */
function studentsT(degrees: number): number {
  const z = 1.959964;
  return (
    z +
    (z ** 3 + z) / (4 * degrees) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3)
  );
}

function meanOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

/** Between the two middle ones where their number is even. */
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

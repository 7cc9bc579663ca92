/** `npm run bench`: every target in turns, scenario by scenario, since the machine's speed drifts; the figures that mean something are the ratios. */
import { settleDisk } from './disk.js';
import { median, short } from './numbers.js';
import { measureRound, prepare, takesPart } from './measure.js';
import type { Prepared, Sample } from './measure.js';
import { say } from './say.js';
import type { Scenario } from './scenarios.js';
import type { AnyTarget } from './targets.js';

export interface SuiteOptions {
  readonly scenarios: readonly Scenario[];
  readonly rounds: number;
  readonly seconds: number;
  readonly connections: number;
  /** Of open loops: up to 1 a share of what the target itself reached in the closed loop, above it requests per second. */
  readonly rates: readonly number[];
}

/** What one target did under one kind of load, round by round. */
export interface Series {
  readonly scenario: string;
  readonly target: string;
  /** Null: a closed loop. */
  readonly rate: number | null;
  /** The closed loop's yardsticks of the same rounds: median of the ratios of requests, or of events. */
  readonly toBare: number | null;
  readonly toCopy: number | null;
  readonly samples: readonly Sample[];
}

/** At most. With 1 s and rests of 12 s one program stayed some 10 % slower for all its rounds; with 8 s it did not. */
const warmUpSeconds = 8;
/** Before each round: a program that has rested while others were measured has to compile some of its code anew, and one at work has not. */
const wakeUpSeconds = 1;

export async function runSuite(targets: readonly AnyTarget[], options: SuiteOptions): Promise<Series[]> {
  const all: Series[] = [];
  for (const scenario of options.scenarios) {
    say(`${scenario.name}: ${scenario.what}`);
    const prepared: Prepared[] = [];
    for (const target of targets.filter((each) => takesPart(each, scenario))) {
      say(`  ${target.name}: made ready and warmed up`);
      const ready = await prepare(target, scenario);
      prepared.push(ready);
      const load = { connections: options.connections, seconds: warmUpSeconds, rate: null };
      await measureRound(ready, scenario, load);
    }
    const closed = await inTurns(prepared, scenario, options, () => null);
    all.push(...closed);
    for (const rate of options.rates) all.push(...(await openLoops(prepared, scenario, options, closed, rate)));
  }
  return all;
}

/** A raw writer has no requests that could be due. */
function openLoops(
  prepared: readonly Prepared[],
  scenario: Scenario,
  options: SuiteOptions,
  closed: readonly Series[],
  rate: number,
): Promise<Series[]> {
  const reached = (name: string): number => {
    const samples = closed.find((series) => series.target === name)?.samples ?? [];
    return median(samples.map((sample) => sample.requestsPerSecond));
  };
  const overHttp = prepared.filter(({ target }) => target.kind !== 'raw');
  return inTurns(overHttp, scenario, options, (name) =>
    Math.max(1, Math.round(rate > 1 ? rate : rate * reached(name))),
  );
}

async function inTurns(
  prepared: readonly Prepared[],
  scenario: Scenario,
  { rounds, seconds, connections }: SuiteOptions,
  rateOf: (target: string) => number | null,
): Promise<Series[]> {
  const samples = new Map<string, Sample[]>(prepared.map(({ target }) => [target.name, []]));
  for (let round = 1; round <= rounds; round++) {
    for (const ready of prepared) {
      const { name } = ready.target;
      const rate = rateOf(name);
      const wakeUp = Math.min(seconds, wakeUpSeconds);
      // What those before have left to be written is not this one's.
      settleDisk();
      await measureRound(ready, scenario, { connections, seconds: wakeUp, rate, counts: false });
      const sample = await measureRound(ready, scenario, { connections, seconds, rate });
      samples.get(name)?.push(sample);
      const loop = rate === null ? 'closed loop' : `open loop, ${rate} requests/s`;
      const rates = `${short(sample.requestsPerSecond)} requests/s, ${short(sample.eventsPerSecond)} events/s`;
      say(`  ${loop}, round ${round} of ${rounds}: ${name}: ${rates}, p99 ${short(sample.p99)} ms`);
    }
  }
  const [bare] = prepared.filter(({ target }) => target.kind === 'bare');
  const [copy] = prepared.filter(({ target }) => target.kind === 'raw');
  const kindOf = (name: string): string => prepared.find(({ target }) => target.name === name)?.target.kind ?? '';
  const of = (yardstick: Prepared | undefined): readonly Sample[] => samples.get(yardstick?.target.name ?? '') ?? [];
  return Array.from(samples, ([target, its]) => ({
    scenario: scenario.name,
    target,
    rate: rateOf(target),
    toBare: kindOf(target) === 'raw' ? null : ratioOf(its, of(bare), 'requestsPerSecond'),
    toCopy: kindOf(target) === 'bare' ? null : ratioOf(its, of(copy), 'eventsPerSecond'),
    samples: its,
  }));
}

/** Each round by the yardstick of the same round, so that a slow moment of the machine counts for both. */
function ratioOf(
  samples: readonly Sample[],
  yardstick: readonly Sample[],
  figure: 'requestsPerSecond' | 'eventsPerSecond',
): number | null {
  if (yardstick.length === 0) return null;
  return median(samples.map((sample, round) => sample[figure] / (yardstick[round]?.[figure] ?? NaN)));
}

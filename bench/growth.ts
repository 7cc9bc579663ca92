/**
 * `npm run bench -- --growth`: what a request costs as what is stored, and who sends, becomes more. A bare server beside it in each round is the yardstick, since
 * the figures of one size come minutes after those of another.
 */
import type { Sample } from './measure.js';
import { measureRound } from './measure.js';
import { median, short } from './numbers.js';
import { say } from './say.js';
import { chosenScenarios } from './scenarios.js';
import type { Scenario } from './scenarios.js';
import type { AnyTarget, SluiceTarget } from './targets.js';

export interface GrowthOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly connections: number;
  /** Events stored before, in one log, from few to many. */
  readonly sizes: readonly number[];
}

export interface GrowthRow {
  readonly target: string;
  readonly with: string;
  readonly load: string;
  readonly 'requests/s': number;
  readonly 'events/s': number;
  readonly 'p99 ms': number;
  /** Requests, by those of the bare server in the same rounds, against the same at the first size: below 1 is dearer. */
  readonly 'against the first': number;
}

const orgCounts = [1, 100, 10_000];
const fillSeconds = 10;
/** A list of a log in use, and its consumer: not the scenarios that bring a log of their own. */
const onLog = ['single', 'batch-100', 'receive-ack', 'list'];

/** One row for each load and size. `bare` is any bare server. */
export async function measureGrowth(
  target: SluiceTarget,
  bare: AnyTarget,
  options: GrowthOptions,
): Promise<GrowthRow[]> {
  const rows: GrowthRow[] = [];
  const first = new Map<string, number>();
  const add = async (scenario: Scenario, keys: readonly string[], label: string): Promise<void> => {
    const samples: Sample[] = [];
    const ratios: number[] = [];
    const [yardstick] = chosenScenarios('single');
    const job = { connections: options.connections, seconds: options.seconds, rate: null, counts: false };
    await measureRound({ target, keys }, scenario, { ...job, seconds: 2 });
    for (let round = 0; round < options.rounds; round++) {
      const sample = await measureRound({ target, keys }, scenario, job);
      const beside = await measureRound({ target: bare, keys: ['none'] }, yardstick ?? scenario, {
        ...job,
        seconds: 2,
      });
      samples.push(sample);
      ratios.push(sample.requestsPerSecond / beside.requestsPerSecond);
    }
    const name = label.endsWith('orgs') ? 'orgs' : scenario.name;
    const ratio = median(ratios);
    first.set(name, first.get(name) ?? ratio);
    const middle = (figure: 'requestsPerSecond' | 'eventsPerSecond' | 'p99'): number =>
      Math.round(median(samples.map((sample) => sample[figure])));
    rows.push({
      target: target.name,
      with: label,
      load: scenario.name,
      'requests/s': middle('requestsPerSecond'),
      'events/s': middle('eventsPerSecond'),
      'p99 ms': middle('p99'),
      'against the first': Math.round((ratio / (first.get(name) ?? ratio)) * 100) / 100,
    });
    say(`  ${label}: ${scenario.name}: ${short(median(samples.map((sample) => sample.requestsPerSecond)))} requests/s`);
  };

  const [single] = chosenScenarios('single');
  for (const orgs of orgCounts) {
    if (single !== undefined) await add(single, await target.newKeys(orgs), `${orgs} orgs`);
  }
  const [key = ''] = await target.newKeys(1);
  for (const size of options.sizes) {
    await fill(target, key, size, options.connections);
    for (const scenario of chosenScenarios(onLog.join(','))) await add(scenario, [key], `${short(size)} events`);
  }
  return rows;
}

/** Sends batches until so many events are stored; those of all orgs count. */
async function fill(target: SluiceTarget, key: string, size: number, connections: number): Promise<void> {
  const [batches] = chosenScenarios('batch-1000');
  if (batches === undefined) return;
  for (;;) {
    const stored = (await target.counts()).events ?? Infinity;
    if (stored >= size) return;
    say(`  ${short(stored)} of ${short(size)} events are stored`);
    const seconds = stored === 0 || size - stored < 100_000 ? 1 : fillSeconds;
    await measureRound({ target, keys: [key] }, batches, { connections, seconds, rate: null, counts: false });
  }
}

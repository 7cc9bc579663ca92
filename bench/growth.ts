/**
 * `npm run bench -- --growth`: what a request costs as what is stored, and who sends, becomes more. Few and many orgs send in turns. The figures of one size
 * of the log come minutes after those of another, so there a bare server beside it in each round is the yardstick.
 */
import type { Sample } from './measure.js';
import { measureRound } from './measure.js';
import { median, short, spreadOf } from './numbers.js';
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
  /** Of Node and the database, on a processor. Null where the machine does not tell. */
  readonly 'µs an event': number | null;
  /**
   * Requests against those with the first: of orgs in the same round, of sizes each by those of the bare server in its round. Below 1 is dearer.
   */
  readonly 'against the first': number;
}

const orgCounts = [1, 100, 10_000];
/** As many of one org as of many: the generator has the same to do. */
const keysSent = 10_000;
const warmUpSeconds = 4;
/** Before each round: for 2 s after others have sent, one org alone gets its turns only. */
const settleSeconds = 3;
const fillSeconds = 10;
/** A list of a log in use, and its consumer: not the scenarios that bring a log of their own. */
const onLog = ['single', 'batch-100', 'receive-ack', 'list'];

/** One row for each load and size. `bare` is any bare server. */
export async function measureGrowth(
  target: SluiceTarget,
  bare: AnyTarget,
  options: GrowthOptions,
): Promise<GrowthRow[]> {
  const rows = await measureOrgs(target, options);
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
    const ratio = median(ratios);
    first.set(scenario.name, first.get(scenario.name) ?? ratio);
    rows.push(rowOf(target, label, scenario, samples, ratio / (first.get(scenario.name) ?? ratio)));
  };

  const [key = ''] = await target.newKeys(1);
  for (const size of options.sizes) {
    await fill(target, key, size, options.connections);
    for (const scenario of chosenScenarios(onLog.join(','))) await add(scenario, [key], `${short(size)} events`);
  }
  return rows;
}

async function measureOrgs(
  target: SluiceTarget,
  { rounds, seconds, connections }: GrowthOptions,
): Promise<GrowthRow[]> {
  const [single] = chosenScenarios('single');
  if (single === undefined) return [];
  const job = { connections, seconds, rate: null, counts: false };
  const loads: { readonly orgs: number; readonly keys: readonly string[]; readonly samples: Sample[] }[] = [];
  for (const orgs of orgCounts) {
    const ofOrgs = await target.newKeys(orgs);
    const keys = Array.from({ length: keysSent }, (_, index) => ofOrgs[index % orgs] ?? '');
    await measureRound({ target, keys }, single, { ...job, seconds: warmUpSeconds });
    loads.push({ orgs, keys, samples: [] });
  }
  for (let round = 0; round < rounds; round++) {
    for (const { keys, samples } of round % 2 === 0 ? loads : loads.toReversed()) {
      await measureRound({ target, keys }, single, { ...job, seconds: settleSeconds });
      samples.push(await measureRound({ target, keys }, single, job));
    }
  }
  const first = loads[0]?.samples ?? [];
  return loads.map(({ orgs, samples }) => {
    const ratios = samples.map((sample, round) => sample.requestsPerSecond / (first[round]?.requestsPerSecond ?? NaN));
    return rowOf(target, `${orgs} orgs`, single, samples, median(ratios));
  });
}

function rowOf(
  target: SluiceTarget,
  label: string,
  scenario: Scenario,
  samples: readonly Sample[],
  ratio: number,
): GrowthRow {
  const middle = (figure: 'requestsPerSecond' | 'eventsPerSecond' | 'p99'): number =>
    Math.round(median(samples.map((sample) => sample[figure])));
  const spent = spreadOf(samples.map(spentPerEvent));
  say(`  ${label}: ${scenario.name}: ${short(middle('requestsPerSecond'))} requests/s`);
  return {
    target: target.name,
    with: label,
    load: scenario.name,
    'requests/s': middle('requestsPerSecond'),
    'events/s': middle('eventsPerSecond'),
    'p99 ms': middle('p99'),
    'µs an event': spent === null ? null : Math.round(spent.median * 10) / 10,
    'against the first': Math.round(ratio * 100) / 100,
  };
}

function spentPerEvent({ cpuMainPerEvent, cpuEnginePerEvent, cpuOtherPerEvent }: Sample): number | null {
  if (cpuMainPerEvent === null || cpuEnginePerEvent === null || cpuOtherPerEvent === null) return null;
  return cpuMainPerEvent + cpuEnginePerEvent + cpuOtherPerEvent;
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

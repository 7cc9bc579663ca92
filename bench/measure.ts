/** One round of one scenario on one target: what came through, and what it took. */
import { seedEvents } from './api.js';
import { settleDisk, writtenToDisk } from './disk.js';
import type { LoadResult } from './load.js';
import { runPlan } from './load.js';
import { forgetPeaks, readUsage, spentBetween, spentByEndedChildren } from './processes.js';
import type { Usage } from './processes.js';
import { eventOf } from './scenarios.js';
import type { Scenario } from './scenarios.js';
import type { AnyTarget, Counts } from './targets.js';
import { flushCounts } from './targets.js';

export interface Job {
  readonly connections: number;
  readonly seconds: number;
  /** Requests per second in an open loop; null in a closed one. */
  readonly rate: number | null;
  /** False: the database is not asked what it counted, which saves a second a round. Default true. */
  readonly counts?: boolean;
}

/** Null is a figure that there is not: without /proc, or of a server that stores nothing. Processor time is in microseconds. */
export interface Sample extends LoadResult {
  readonly cpuMainPerEvent: number | null;
  /** PostgreSQL's processes, or the embedded engine's thread. */
  readonly cpuEnginePerEvent: number | null;
  /** Node's other threads: file system, garbage collection. */
  readonly cpuOtherPerEvent: number | null;
  readonly cpuGeneratorPerEvent: number | null;
  /** Of Node, at its largest. */
  readonly memoryMb: number | null;
  /** By the disk, whoever had them written. */
  readonly writtenBytesPerEvent: number | null;
  readonly fsyncsPerSecond: number | null;
  /** Of the events that were acknowledged, those that the database counted: 1, or something is wrong. */
  readonly stored: number | null;
}

/** A target made ready for a scenario. */
export interface Prepared {
  readonly target: AnyTarget;
  readonly keys: readonly string[];
}

export function takesPart(target: AnyTarget, scenario: Scenario): boolean {
  if (target.kind === 'raw' && target.how === 'insert') return scenario.isIngest && scenario.eventsPerRequest === 1;
  return target.kind === 'sluice' || scenario.isIngest;
}

export async function measureRound({ target, keys }: Prepared, scenario: Scenario, job: Job): Promise<Sample> {
  const asked = (): Promise<Counts> => (job.counts === false ? Promise.resolve(notAsked) : target.counts());
  forgetPeaks(target.nodePids);
  const writtenBefore = job.counts === false || target.kind === 'bare' ? null : writtenToDisk();
  const before = { counts: await asked(), ...use(target) };
  const { result, generatorUs } = await load({ target, keys }, scenario, job);
  const after = use(target);
  if (writtenBefore !== null) settleDisk();
  const writtenAfter = writtenBefore === null ? null : writtenToDisk();
  if (target.kind === 'sluice' && job.counts !== false) await flushCounts(target, keys);
  const counts = await asked();

  const acknowledged = Math.round(result.eventsPerSecond * result.seconds);
  const stored = difference(counts.events, before.counts.events);
  // Where events are only counted by replies, what was under way at the end is left out.
  const counted = scenario.eventsPerRequest > 0 && stored !== null ? stored : acknowledged;
  // Reading a list is no event: there a request is what has a cost.
  const events = counted > 0 ? counted : result.requestsPerSecond * result.seconds;
  const per = (amount: number | null | undefined): number | null =>
    amount === null || amount === undefined || events === 0 ? null : amount / events;
  const node = spentBetween(before.node, after.node);
  const database = spentBetween(before.database, after.database);
  const isEmbedded = target.kind === 'sluice' && target.engine === 'embedded';
  const server = database && database.main + database.busiest + database.others;
  const fsyncs = difference(counts.fsyncs, before.counts.fsyncs);
  return {
    ...result,
    cpuMainPerEvent: per(node?.main),
    cpuEnginePerEvent: isEmbedded ? per(node?.busiest) : per(server),
    cpuOtherPerEvent: node && per(node.others + (isEmbedded ? 0 : node.busiest)),
    cpuGeneratorPerEvent: per(generatorUs),
    memoryMb: after.node && after.node.peakBytes / 2 ** 20,
    writtenBytesPerEvent: per(difference(writtenAfter, writtenBefore)),
    fsyncsPerSecond: fsyncs === null ? null : fsyncs / result.seconds,
    stored: !isCounted(scenario) || stored === null ? null : Math.min(1, stored / acknowledged),
  };
}

const notAsked: Counts = { events: null, fsyncs: null };

/** Whether the replies say how many events there were, and not only the average of a mixture. */
function isCounted({ eventsPerRequest }: Scenario): boolean {
  return eventsPerRequest > 0 && Number.isInteger(eventsPerRequest);
}

interface Uses {
  readonly node: Usage | null;
  readonly database: Usage | null;
}

function use({ nodePids, databasePids }: AnyTarget): Uses {
  return { node: readUsage(nodePids), database: databasePids.length === 0 ? null : readUsage(databasePids) };
}

function difference(after: number | null | undefined, before: number | null | undefined): number | null {
  return typeof after === 'number' && typeof before === 'number' ? after - before : null;
}

async function load(
  { target, keys }: Prepared,
  scenario: Scenario,
  { connections, seconds, rate }: Job,
): Promise<{ result: LoadResult; generatorUs: number | null }> {
  const secondsNow = Math.min(seconds, scenario.secondsMax);
  const connectionsNow = Math.min(connections, scenario.connectionsMax);
  if (target.kind === 'raw') {
    // As many rows in one COPY as Sluice could find waiting at most, so that nobody is held against smaller transactions than its own.
    const rows = scenario.eventsPerRequest > 1 ? scenario.eventsPerRequest : connectionsNow;
    const bytes = scenario.bytes - '{"type":"user.created","payload":}'.length;
    const size = { rows: target.how === 'copy' ? rows : 1, bytes, connections: Math.min(10, connectionsNow) };
    const result = await target.run({ how: target.how, ...size, seconds: secondsNow });
    return { result: { generator: 'none', ...result }, generatorUs: null };
  }
  const beforeUs = spentByEndedChildren();
  const run = Math.random().toString(36).slice(2, 10).padEnd(8, '0');
  const plan = scenario.plan(keys, run);
  const size = { connections: connectionsNow, seconds: secondsNow, rate };
  const result = await runPlan({ address: target.address, plan, ...size });
  return { result, generatorUs: difference(spentByEndedChildren(), beforeUs) };
}

/** Makes the orgs, and stores what they have stored before. */
export async function prepare(target: AnyTarget, scenario: Scenario): Promise<Prepared> {
  if (target.kind !== 'sluice') return { target, keys: ['none'] };
  const keys = await target.newKeys(scenario.orgs);
  const { bytes, seedEvents: count } = scenario;
  if (count > 0) await seedEvents(target.address, keys[0] ?? '', eventOf(bytes), count);
  return { target, keys };
}

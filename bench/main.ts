/**
 * `npm run bench`: how much of a bare HTTP server's throughput is left when every event is on disk before its 2xx. All targets are measured in one
 * run, in turns, since the machine's speed drifts; the figures that mean something are the ratios.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { stopServers } from '../test/support/storage.js';
import { measureFlood } from './flood.js';
import type { LoadResult } from './load.js';
import { requireLoadGenerator, runLoad } from './load.js';
import { measureReads } from './reads.js';
import type { SluiceTarget, Target } from './targets.js';
import { startBareServer, startSluice } from './targets.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    connections: { type: 'string', default: '100' },
    bytes: { type: 'string', default: '300' },
    reads: { type: 'boolean', default: false },
    flood: { type: 'boolean', default: false },
  },
});
const [rounds, seconds, connections, bytes] = [values.rounds, values.seconds, values.connections, values.bytes].map(
  Number,
) as [number, number, number, number];

requireLoadGenerator();
const targets: Target[] = [];
const nodes: SluiceTarget[] = [];
try {
  targets.push(await startBareServer());
  for (const engine of ['embedded', 'postgres'] as const) {
    const target = await startSluice(engine);
    if (target === null) say('no PostgreSQL on this machine: measured without it');
    else {
      targets.push(target);
      nodes.push(target);
    }
  }
  if (values.reads) await reportReads();
  else if (values.flood) await reportFlood();
  else report(await measure());
} finally {
  for (const target of targets) await target.stop();
  await stopServers();
}

async function measure(): Promise<Map<Target, LoadResult[]>> {
  const body = eventOf(bytes);
  const results = new Map<Target, LoadResult[]>(targets.map((target) => [target, []]));
  for (const target of targets) {
    say(`warming up: ${target.name}`);
    await runLoad(target, { connections, seconds: 2, body });
  }
  for (let round = 1; round <= rounds; round++) {
    for (const target of targets) {
      const result = await runLoad(target, { connections, seconds, body });
      results.get(target)?.push(result);
      say(`round ${round} of ${rounds}: ${target.name}: ${Math.round(result.requestsPerSecond)} requests/s`);
    }
  }
  return results;
}

async function reportReads(): Promise<void> {
  const rows = [];
  for (const target of nodes) {
    say(`reads and writes: ${target.name}`);
    const { idleP99, loadedP99, writeRatio } = await measureReads(
      target,
      { connections, seconds, body: eventOf(bytes) },
      rounds,
    );
    rows.push({
      target: target.name,
      'read p99 ms, idle': idleP99,
      'read p99 ms, under write load': loadedP99,
      ratio: loadedP99 / idleP99,
      'writes/s against without reads': writeRatio,
    });
  }
  // oxlint-disable-next-line no-console -- a table for a person
  console.table(rows);
}

async function reportFlood(): Promise<void> {
  const rows = [];
  for (const target of nodes) {
    for (const isLimited of [true, false]) {
      say(`one org floods${isLimited ? ', within its rate limit' : ''}: ${target.name}`);
      const load = { connections, seconds, body: eventOf(bytes) };
      rows.push({
        target: target.name,
        'rate limit': isLimited,
        ...(await measureFlood(target, load, rounds, isLimited)),
      });
    }
  }
  // oxlint-disable-next-line no-console -- a table for a person
  console.table(rows);
}

/** An event whose whole body has this many bytes. */
function eventOf(size: number): string {
  const empty = JSON.stringify({ type: 'user.created', payload: { user_id: '12345', text: '' } });
  return empty.replace('"text":""', `"text":"${'x'.repeat(Math.max(0, size - empty.length))}"`);
}

function report(results: ReadonlyMap<Target, readonly LoadResult[]>): void {
  const rows = Array.from(results, ([target, all]) => ({
    target: target.name,
    'requests/s': Math.round(median(all.map((result) => result.requestsPerSecond))),
    ratio: 0,
    'p50 ms': median(all.map((result) => result.p50)),
    'p95 ms': median(all.map((result) => result.p95)),
    'p99 ms': median(all.map((result) => result.p99)),
    'success %': 100 * Math.min(...all.map((result) => result.success)),
  }));
  // The bare server of the same round is the yardstick, so that a slow moment of the machine counts for both.
  const [bare] = results.values();
  for (const [i, all] of [...results.values()].entries()) {
    const ratios = all.map((result, round) => result.requestsPerSecond / (bare?.[round]?.requestsPerSecond ?? 1));
    rows[i]!.ratio = Math.round(median(ratios) * 1000) / 1000;
  }
  // oxlint-disable-next-line no-console -- a table for a person
  console.table(rows);
  say(
    `medians of ${rounds} rounds of ${seconds} s, ${connections} connections, ${bytes}-byte events, ` +
      `${availableParallelism()} processors shared with the load generator and the database, Node ${process.version}`,
  );
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

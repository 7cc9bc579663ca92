/**
 * `npm run bench`: how much of a bare HTTP server's throughput, and of the database's own, is left when every event is on disk before its 2xx. All targets
 * are measured in one run, in turns. `--help` lists the modes.
 */
import { resolve } from 'node:path';
import { stopServers } from '../test/support/storage.js';
import type { EngineName } from '../test/support/storage.js';
import { reportAgainst, selfCheck } from './against.js';
import { measureFlood } from './flood.js';
import { measureGrowth } from './growth.js';
import { describeMachine } from './machine.js';
import { measureMicro } from './micro.js';
import { help, readOptions } from './options.js';
import { measureReads } from './reads.js';
import { markdownOf, writeReport } from './report.js';
import { print, say } from './say.js';
import { eventOf } from './scenarios.js';
import { measureGiven } from './given.js';
import { measureStarts } from './starts.js';
import { measureSteady } from './steady.js';
import { runSuite } from './suite.js';
import type { AnyTarget, HttpTarget, SluiceTarget } from './targets.js';
import { startBareServer, startFastifyServer, startRawWriters, startSluice } from './targets.js';

const { values, rounds, seconds, connections, bytes, engines, chosen, rates, workers, sizes, ...comparing } = given();
const { compares, threshold, runs } = comparing;
const size = { rounds, seconds, connections };

// A signal ends the load at once: whatever was started goes with this process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  if (values.help) print(help);
  else if (values.micro) print(measureMicro());
  else if (values.reads) await onNodes(reportReads);
  else if (values.flood) await onNodes(reportFlood);
  else if (values.growth) await onNodes(reportGrowth);
  else if (values.steady) await reportSteady();
  // oxlint-disable-next-line no-console -- a table for a person
  else if (values.starts) console.table(await measureStarts(engines, rounds));
  else if (values.target !== undefined) print(await measureGiven(values.target, chosen, size));
  else if (compares) process.exitCode = await compare();
  else await measureAll();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  await stopServers();
}

async function measureAll(): Promise<void> {
  const machine = describeMachine();
  const targets: AnyTarget[] = [];
  try {
    targets.push(await startBareServer(), await startFastifyServer());
    targets.push(...((await startRawWriters()) ?? []));
    targets.push(...(await startNodes(engines)));
    const several = workers === null ? null : await startWorkers(workers);
    if (several !== null) targets.push(several);
    const series = await runSuite(targets, { ...size, scenarios: chosen, rates });
    const told = chosen.map(({ name, what, connectionsMax }) => ({ name, what, connectionsMax }));
    const report = { machine, ...size, scenarios: told, series };
    print(markdownOf(report));
    say(`written to ${writeReport(report, resolve(values.out))}`);
  } finally {
    for (const target of targets) await target.stop();
  }
}

async function startNodes(names: readonly EngineName[]): Promise<SluiceTarget[]> {
  const nodes: SluiceTarget[] = [];
  for (const engine of names) {
    const target = await startSluice(engine);
    if (target === null) say('no PostgreSQL on this machine: measured without it');
    else nodes.push(target);
  }
  return nodes;
}

/** Null, with the reason said, where this version does not start with so many. */
async function startWorkers(count: number): Promise<SluiceTarget | null> {
  const flags = ['--workers', String(count)];
  try {
    return await startSluice('postgres', { name: `sluice, postgres, ${count} workers`, flags });
  } catch (error) {
    say(`measured without ${count} workers: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

async function compare(): Promise<number> {
  const comparison = { ...size, threshold, engines, scenarios: chosen };
  if (values['self-check']) return selfCheck(comparison, runs);
  return reportAgainst(comparison, values.against ?? 'HEAD');
}

async function onNodes(report: (nodes: readonly SluiceTarget[]) => Promise<object[]>): Promise<void> {
  const nodes = await startNodes(engines);
  try {
    // oxlint-disable-next-line no-console -- a table for a person
    console.table(await report(nodes));
  } finally {
    for (const node of nodes) await node.stop();
  }
}

async function reportReads(nodes: readonly SluiceTarget[]): Promise<object[]> {
  const rows = [];
  for (const target of nodes) {
    say(`reads and writes: ${target.name}`);
    const load = { connections, seconds, body: eventOf(bytes) };
    const { idleP99, loadedP99, writeRatio } = await measureReads(target, load, rounds);
    rows.push({
      target: target.name,
      'read p99 ms, idle': idleP99,
      'read p99 ms, under write load': loadedP99,
      ratio: loadedP99 / idleP99,
      'writes/s against without reads': writeRatio,
    });
  }
  return rows;
}

async function reportFlood(nodes: readonly SluiceTarget[]): Promise<object[]> {
  const bare = await startBareServer();
  const rows: object[] = [];
  const measure = async (target: HttpTarget, isLimited: boolean): Promise<void> => {
    say(`one org floods${isLimited ? ', within its rate limit' : ''}: ${target.name}`);
    const measured = await measureFlood(target, { connections, seconds, body: eventOf(bytes) }, rounds, isLimited);
    rows.push({ target: target.name, 'rate limit': isLimited, ...measured });
  };
  try {
    await measure(bare, false);
  } finally {
    await bare.stop();
  }
  for (const target of nodes) for (const isLimited of [true, false]) await measure(target, isLimited);
  return rows;
}

/** One engine after the other, so that what one stores is gone before the next begins. */
async function reportSteady(): Promise<void> {
  const [scenario] = chosen;
  if (scenario === undefined) return;
  for (const engine of engines) {
    const [node] = await startNodes([engine]);
    if (node === undefined) continue;
    try {
      // oxlint-disable-next-line no-console -- a table for a person
      console.table(await measureSteady(node, scenario, size));
    } finally {
      await node.stop();
    }
  }
}

async function reportGrowth(nodes: readonly SluiceTarget[]): Promise<object[]> {
  const bare = await startBareServer();
  try {
    const rows = [];
    for (const target of nodes) {
      say(`growth: ${target.name}`);
      rows.push(...(await measureGrowth(target, bare, { ...size, sizes })));
    }
    return rows;
  } finally {
    await bare.stop();
  }
}

/** Ends the process with a sentence where the arguments cannot be. */
function given(): ReturnType<typeof readOptions> {
  try {
    return readOptions(process.argv.slice(2));
  } catch (error) {
    say(`${error instanceof Error ? error.message : String(error)}; npm run bench -- --help says what there is`);
    return process.exit(1);
  }
}

/**
 * `npm run bench`: how much of a bare HTTP server's throughput, and of the database's own, is left when every event is on disk before its 2xx. All targets
 * are measured in one run, in turns. `--help` lists the modes.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { stopServers } from '../test/support/storage.js';
import type { EngineName } from '../test/support/storage.js';
import { reportAgainst, selfCheck } from './against.js';
import { measureFlood } from './flood.js';
import { describeMachine } from './machine.js';
import { measureMicro } from './micro.js';
import { measureReads } from './reads.js';
import { markdownOf, writeReport } from './report.js';
import { print, say } from './say.js';
import { chosenScenarios, eventOf, scenarios, scenariosByDefault } from './scenarios.js';
import { measureGiven } from './given.js';
import { runSuite } from './suite.js';
import type { AnyTarget, SluiceTarget } from './targets.js';
import { startBareServer, startFastifyServer, startRawWriters, startSluice } from './targets.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    connections: { type: 'string', default: '100' },
    scenarios: { type: 'string', default: scenariosByDefault },
    all: { type: 'boolean', default: false },
    rates: { type: 'string', default: '0.5' },
    engines: { type: 'string', default: 'embedded,postgres' },
    workers: { type: 'string' },
    out: { type: 'string', default: 'bench-results' },
    against: { type: 'string' },
    threshold: { type: 'string', default: '0.07' },
    'self-check': { type: 'boolean', default: false },
    runs: { type: 'string', default: '10' },
    target: { type: 'string' },
    micro: { type: 'boolean', default: false },
    reads: { type: 'boolean', default: false },
    flood: { type: 'boolean', default: false },
    bytes: { type: 'string', default: '300' },
    help: { type: 'boolean', default: false },
  },
});

const help = `npm run bench -- [mode] [options]

modes
  (none)               bare servers, raw COPY and INSERT, and Sluice, in turns
  --against <commit>   this tree and that commit in pairs of rounds; exits with 1 if this tree is slower
  --self-check         --against itself, --runs times, and a slowdown of a fifth that has to be found
  --target <url>       one server that is running on this machine, with the key in SLUICE_KEY
  --reads, --flood     single reads under load; one org's flood
  --micro              the functions of the hot path, alone

options                default
  --scenarios a,b      ${scenariosByDefault}; there are ${scenarios.map(({ name }) => name).join(', ')}
  --all                all of them
  --rounds n           5; of --against, 30 pairs
  --seconds n          5 a round; of --against, 1
  --connections n      100
  --rates a,b          0.5; of open loops: up to 1 a share of the target's closed loop, above requests/s; 0 leaves them out
  --engines a,b        embedded,postgres
  --workers n          also Sluice with so many workers, on PostgreSQL
  --threshold x        0.07; of --against: a smaller difference is none
  --runs n             10; of --self-check
  --bytes n            300; of the events of --reads and --flood
  --out folder         bench-results`;

const compares = values.against !== undefined || values['self-check'];
const rounds = wholeNumber('rounds', values.rounds ?? (compares ? '30' : '5'));
const seconds = wholeNumber('seconds', values.seconds ?? (compares ? '1' : '5'));
const connections = wholeNumber('connections', values.connections);
const bytes = wholeNumber('bytes', values.bytes);
const engines = values.engines.split(',').map(engineOf);
const chosen = values.all ? scenarios : chosenScenarios(values.scenarios);
const size = { rounds, seconds, connections };

// A signal ends the load at once: whatever was started goes with this process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  if (values.help) print(help);
  else if (values.micro) print(measureMicro());
  else if (values.reads) await onNodes(reportReads);
  else if (values.flood) await onNodes(reportFlood);
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
    const workers = values.workers === undefined ? null : await startWorkers(wholeNumber('workers', values.workers));
    if (workers !== null) targets.push(workers);
    const rates = values.rates.split(',').map(Number);
    if (rates.some((rate) => !(rate >= 0))) throw new Error(`--rates are numbers, not ${values.rates}`);
    const series = await runSuite(targets, { ...size, scenarios: chosen, rates: rates.filter((rate) => rate > 0) });
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
async function startWorkers(workers: number): Promise<SluiceTarget | null> {
  const flags = ['--workers', String(workers)];
  try {
    return await startSluice('postgres', { name: `sluice, postgres, ${workers} workers`, flags });
  } catch (error) {
    say(`measured without ${workers} workers: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

async function compare(): Promise<number> {
  const threshold = Number(values.threshold);
  if (!(threshold > 0 && threshold < 1)) throw new Error(`--threshold is between 0 and 1, not ${values.threshold}`);
  const options = { ...size, threshold, engines, scenarios: chosen };
  if (values['self-check']) return selfCheck(options, wholeNumber('runs', values.runs));
  return reportAgainst(options, values.against ?? 'HEAD');
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
  const rows = [];
  for (const target of nodes) {
    for (const isLimited of [true, false]) {
      say(`one org floods${isLimited ? ', within its rate limit' : ''}: ${target.name}`);
      const load = { connections, seconds, body: eventOf(bytes) };
      const measured = await measureFlood(target, load, rounds, isLimited);
      rows.push({ target: target.name, 'rate limit': isLimited, ...measured });
    }
  }
  return rows;
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 1_000_000)
    throw new Error(`--${name} is a whole number above 0`);
  return number;
}

function engineOf(name: string): EngineName {
  if (name === 'embedded' || name === 'postgres') return name;
  throw new Error(`no engine "${name}"; there are embedded and postgres`);
}

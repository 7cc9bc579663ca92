/** The figures of a run as a table of Markdown and as JSON. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { htmlOf } from './html.js';
import type { Machine } from './machine.js';
import type { Sample } from './measure.js';
import { short, spreadOf } from './numbers.js';
import type { Spread } from './numbers.js';
import type { Scenario } from './scenarios.js';
import type { Series } from './suite.js';

export interface Report {
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly connections: number;
  readonly scenarios: readonly Pick<Scenario, 'name' | 'what' | 'connectionsMax'>[];
  readonly series: readonly Series[];
}

interface Column {
  readonly title: string;
  readonly figure: (series: Series) => string;
}

const range =
  (of: (sample: Sample) => number | null) =>
  ({ samples }: Series): string =>
    spreadText(spreadOf(samples.map(of)));

const middle =
  (of: (sample: Sample) => number | null | undefined) =>
  ({ samples }: Series): string =>
    short(spreadOf(samples.map((sample) => of(sample) ?? null))?.median);

const speed: readonly Column[] = [
  { title: 'requests/s', figure: range((sample) => sample.requestsPerSecond) },
  { title: 'events/s', figure: middle((sample) => sample.eventsPerSecond) },
  { title: '× bare', figure: (series) => short(series.toBare) },
  { title: '× COPY', figure: (series) => short(series.toCopy) },
];

const waits: readonly Column[] = [
  { title: 'p50 ms', figure: middle((sample) => sample.p50) },
  { title: 'p95', figure: middle((sample) => sample.p95) },
  { title: 'p99', figure: range((sample) => sample.p99) },
  { title: 'p99.9', figure: middle((sample) => sample.p999) },
  { title: 'success %', figure: ({ samples }) => lowest(samples, (sample) => sample.success) },
];

const costs: readonly Column[] = [
  { title: 'µs Node', figure: middle((sample) => sample.cpuMainPerEvent) },
  { title: 'µs engine', figure: middle((sample) => sample.cpuEnginePerEvent) },
  { title: 'µs other', figure: middle((sample) => sample.cpuOtherPerEvent) },
  { title: 'µs generator', figure: middle((sample) => sample.cpuGeneratorPerEvent) },
  { title: 'MB', figure: middle((sample) => sample.memoryMb) },
  { title: 'bytes written', figure: middle((sample) => sample.writtenBytesPerEvent) },
  { title: 'fsyncs/s', figure: middle((sample) => sample.fsyncsPerSecond) },
  { title: 'stored %', figure: ({ samples }) => lowest(samples, (sample) => sample.stored) },
];

const late: Column = { title: 'generator late p99', figure: middle((sample) => sample.lateP99) };

/** A success of 99.9 % must not read as 100. */
function lowest(samples: readonly Sample[], of: (sample: Sample) => number | null): string {
  const low = spreadOf(samples.map(of))?.min;
  return low === undefined ? '–' : String(Math.floor(low * 100_000) / 1000);
}

function spreadText(spread: Spread | null): string {
  return spread === null ? '–' : `${short(spread.median)} (${short(spread.min)} … ${short(spread.max)})`;
}

export function markdownOf(report: Report): string {
  const { machine, rounds, seconds, connections } = report;
  const lines = [
    `# Sluice ${machine.commit}, measured ${machine.startedAt}`,
    '',
    `Medians (smallest … largest) of ${rounds} rounds of ${seconds} s in turns, ${connections} connections, load by ${machine.generator}; ` +
      `${machine.processors} × ${machine.processor} for everything, ${machine.memoryGb} GB, Linux ${machine.kernel}, Node ${machine.node}; ` +
      `load of the machine before the start ${short(machine.loadBefore)}.`,
  ];
  for (const { name, what, connectionsMax } of report.scenarios) {
    const at = connectionsMax < connections ? ` (${connectionsMax} connections)` : '';
    lines.push('', `## ${name}: ${what}${at}`);
    const its = report.series.filter((series) => series.scenario === name);
    const closed = its.filter((series) => series.rate === null);
    lines.push('', 'As fast as it goes:', '', ...table(closed, [...speed, ...waits]));
    lines.push('', 'Per event:', '', ...table(closed, costs));
    const open = its.filter((series) => series.rate !== null);
    if (open.length === 0) continue;
    const rate: Column = { title: 'due/s', figure: (series) => short(series.rate) };
    lines.push('', 'At a fixed rate, latency from when a request was due:', '', ...table(open, [rate, ...waits, late]));
  }
  return `${lines.join('\n')}\n`;
}

function table(series: readonly Series[], columns: readonly Column[]): string[] {
  return [
    `| | ${columns.map(({ title }) => title).join(' | ')} |`,
    `|---|${columns.map(() => '---:').join('|')}|`,
    ...series.map((each) => `| ${each.target} | ${columns.map(({ figure }) => figure(each)).join(' | ')} |`),
  ];
}

/** Writes `results.json`, `results.md` and `results.html`. Returns their folder. */
export function writeReport(report: Report, out: string): string {
  const folder = join(out, report.machine.startedAt.replaceAll(/[:.]/g, '-'));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'results.json'), `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(join(folder, 'results.md'), markdownOf(report));
  writeFileSync(join(folder, 'results.html'), htmlOf(report));
  return folder;
}

/** The figures as one page that needs nothing else: charts are SVG, without a script; light and dark as the reader's system is. */
import type { Sample } from './measure.js';
import { short, spreadOf } from './numbers.js';
import type { Report } from './report.js';
import type { Series } from './suite.js';

/** One bar of a chart: parts one behind the other, and whiskers from the smallest to the largest. */
interface Bar {
  readonly label: string;
  readonly parts: readonly number[];
  readonly whiskers?: readonly [number, number];
  readonly text: string;
}

const [labelWidth, barsWidth, textWidth, barHeight] = [190, 460, 150, 26];
const cpuParts = ['Node main thread', 'engine', 'other threads', 'load generator'] as const;

export function htmlOf(report: Report): string {
  const { machine, rounds, seconds, connections } = report;
  const about =
    `Medians of ${rounds} rounds of ${seconds} s in turns, ${connections} connections, load by ${machine.generator}; whiskers reach from the ` +
    `smallest to the largest. ${machine.processors} × ${machine.processor}, ${machine.memoryGb} GB, Linux ${machine.kernel}, Node ${machine.node}; ` +
    `load of the machine before the start ${short(machine.loadBefore)}.`;
  const sections = report.scenarios.map(({ name, what }) => {
    const its = report.series.filter((series) => series.scenario === name);
    const closed = its.filter((series) => series.rate === null);
    const open = its.filter((series) => series.rate !== null);
    const charts = [
      chart(
        'Requests per second',
        closed.map((series) => barOf(series, (sample) => sample.requestsPerSecond, ratioText(series))),
      ),
      chart(
        'Events per second',
        closed.map((series) => barOf(series, (sample) => sample.eventsPerSecond, '')),
      ),
      chart('Processor time per event, µs', closed.map(cpuBar), cpuParts),
      chart(
        '99 % answered within, ms, as fast as it goes',
        closed.map((series) => barOf(series, (sample) => sample.p99, '')),
      ),
      chart(
        '99 % answered within, ms, at a fixed rate',
        open.map((series) => barOf(series, (sample) => sample.p99, rateText(series))),
      ),
    ];
    return `<section><h2>${escaped(name)}</h2><p>${escaped(what)}</p>${charts.join('')}</section>`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sluice ${escaped(machine.commit)}: benchmark</title>
<style>${style}</style></head><body>
<h1>Sluice ${escaped(machine.commit)}</h1>
<p>${escaped(machine.startedAt)}. ${escaped(about)}</p>
${sections.join('\n')}
</body></html>
`;
}

function barOf(series: Series, of: (sample: Sample) => number, note: string): Bar {
  const spread = spreadOf(series.samples.map(of));
  const value = spread?.median ?? 0;
  const text = short(value) + note;
  const bar = { label: series.target, parts: [value], text };
  return spread === null ? bar : { ...bar, whiskers: [spread.min, spread.max] };
}

function cpuBar({ target, samples }: Series): Bar {
  const of = (figure: keyof Sample): number =>
    spreadOf(samples.map((sample) => sample[figure] as number | null))?.median ?? 0;
  const parts = [of('cpuMainPerEvent'), of('cpuEnginePerEvent'), of('cpuOtherPerEvent'), of('cpuGeneratorPerEvent')];
  return { label: target, parts, text: short(total(parts)) };
}

function ratioText({ toBare }: Series): string {
  return toBare === null || toBare === 1 ? '' : ` (${short(toBare)} × bare)`;
}

function rateText({ rate }: Series): string {
  return ` at ${short(rate)}/s`;
}

function chart(title: string, bars: readonly Bar[], parts: readonly string[] = []): string {
  if (bars.length === 0) return '';
  const largest = Math.max(...bars.map((bar) => Math.max(total(bar.parts), bar.whiskers?.[1] ?? 0)));
  const scale = largest === 0 ? 0 : barsWidth / largest;
  const [width, height] = [labelWidth + barsWidth + textWidth, bars.length * barHeight];
  const legend = parts.map((part, i) => `<span><i class="part${i}"></i>${escaped(part)}</span>`).join('');
  const drawn = bars.map((bar, row) => drawnBar(bar, row * barHeight, scale)).join('');
  return `<figure><figcaption>${escaped(title)}${legend && `<span class="legend">${legend}</span>`}</figcaption>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">${drawn}</svg></figure>`;
}

function drawnBar({ label, parts, whiskers, text }: Bar, top: number, scale: number): string {
  const middle = top + barHeight / 2;
  let from = labelWidth;
  const rectangles = parts.map((part, i) => {
    const width = part * scale;
    const drawn = `<rect class="part${i}" x="${one(from)}" y="${top + 4}" width="${one(width)}" height="${barHeight - 8}"/>`;
    from += width;
    return drawn;
  });
  const [low, high] = (whiskers ?? [0, 0]).map((value) => labelWidth + value * scale) as [number, number];
  const line =
    whiskers &&
    `<path class="whiskers" d="M${one(low)} ${middle}H${one(high)}M${one(low)} ${middle - 4}v8M${one(high)} ${middle - 4}v8"/>`;
  const end = Math.max(from, high);
  return `<text x="${labelWidth - 8}" y="${middle + 4}" text-anchor="end">${escaped(label)}</text>${rectangles.join('')}${line ?? ''}
<text x="${one(end + 6)}" y="${middle + 4}">${escaped(text)}</text>`;
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}

function one(value: number): string {
  return value.toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`);
}

const style = `
:root { color-scheme: light dark; --text: #1c2733; --page: #fff; --soft: #5b6b7b; --part0: #2f6fb3; --part1: #d1862b; --part2: #7f8c99; --part3: #58a182; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e9ef; --page: #14191f; --soft: #9aa8b5; --part0: #5e9fe0; --part1: #e0a458; --part2: #8592a0; --part3: #7cc2a3; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-bottom: 0; } p { color: var(--soft); margin-top: 0.3rem; } figure { margin: 1rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; font-size: 12px; } svg text { fill: var(--text); }
.legend { font-weight: 400; margin-left: 1rem; } .legend span { margin-right: 0.8rem; } .legend i { display: inline-block; width: 10px; height: 10px; margin-right: 4px; }
${[0, 1, 2, 3].map((i) => `.part${i} { fill: var(--part${i}); } i.part${i} { background: var(--part${i}); }`).join(' ')}
.whiskers { stroke: var(--text); fill: none; }`;

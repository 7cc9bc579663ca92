import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { NodeMetrics } from '../../src/cli/node-metrics.js';
import type { Metrics } from '../../src/siblings.js';
import { TestClock } from '../support/test-clock.js';

/** What a worker has: so many events, of which it took so long for each. */
async function worker(events: number, seconds: number): Promise<Metrics> {
  const registry = new Registry();
  const registers = [registry];
  const labelNames = ['kind'];
  new Counter({ name: 'events_total', help: 'Events.', labelNames, registers }).inc({ kind: 'a' }, events);
  new Gauge({ name: 'waiting', help: 'Waiting.', registers }).set(events);
  new Gauge({ name: 'each', help: 'Each.', registers, aggregator: 'average' }).set(seconds);
  const histogram = new Histogram({ name: 'took', help: 'Took.', buckets: [1, 10], registers });
  for (let i = 0; i < events; i++) histogram.observe(seconds);
  return registry.getMetricsAsJSON();
}

const valueOf = (text: string, sample: string): number =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${sample} `))
      ?.slice(sample.length + 1),
  );

test('counters, histograms and gauges are sums over the workers; a gauge of each is their average', async () => {
  const [metrics, workers] = [new NodeMetrics(new TestClock()), [await worker(2, 0.5), await worker(3, 5)]];
  const text = await metrics.collect([0, 1], (id, scrape) => metrics.answered(id, scrape, workers[id] ?? []));
  assert.equal(valueOf(text, 'events_total{kind="a"}'), 5);
  assert.equal(valueOf(text, 'took_bucket{le="1"}'), 2);
  assert.equal(valueOf(text, 'took_bucket{le="+Inf"}'), 5);
  assert.equal(valueOf(text, 'took_sum'), 16);
  assert.equal(valueOf(text, 'waiting'), 5);
  assert.equal(valueOf(text, 'each'), 2.75);
});

test('what an ended worker has counted stays, as far as it was told, and what it had open goes', async () => {
  const metrics = new NodeMetrics(new TestClock());
  for (let id = 1; id <= 3; id++) {
    const mine = await worker(id, 0.5);
    await metrics.collect([id], (asked, scrape) => metrics.answered(asked, scrape, mine));
    metrics.ended(id);
  }
  const last = await worker(10, 0.5);
  for (let again = 0; again < 2; again++) {
    const text = await metrics.collect([4], (asked, scrape) => metrics.answered(asked, scrape, last));
    assert.equal(valueOf(text, 'events_total{kind="a"}'), 16);
    assert.equal(valueOf(text, 'took_count'), 16);
    assert.equal(valueOf(text, 'waiting'), 10);
  }
});

test('a worker that does not answer keeps nobody waiting, and counts with what it said before', async () => {
  const clock = new TestClock();
  const metrics = new NodeMetrics(clock);
  const silent = await worker(1, 0.5);
  await metrics.collect([1], (id, scrape) => metrics.answered(id, scrape, silent));
  const other = await worker(2, 0.5);
  const collecting = metrics.collect([1, 2], (id, scrape) => {
    if (id === 2) metrics.answered(id, scrape, other);
  });
  clock.advance(2_000);
  assert.equal(valueOf(await collecting, 'events_total{kind="a"}'), 3);
});

test('a worker that ends while it is asked keeps nobody waiting', async () => {
  const metrics = new NodeMetrics(new TestClock());
  const text = await metrics.collect([1], (id) => metrics.ended(id));
  assert.equal(text.trim(), '');
});

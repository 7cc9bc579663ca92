import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AggregatorRegistry, Histogram, Registry } from 'prom-client';
import { LatencyHistogram } from '../src/latency-histogram.js';

const bounds = [0.001, 0.01, 0.1, 1];
const about = { name: 'seconds', help: 'How long it took.' };

test('writes what a histogram of prom-client writes, also added up over processes', async () => {
  const seconds = fc.oneof(fc.constantFrom(0, 0.001, 0.01, 0.1, 1, 1.5), fc.double({ min: 0, max: 3, noNaN: true }));
  const observations = fc.array(fc.tuple(fc.constantFrom('200', '404', '503'), seconds), { maxLength: 50 });
  await fc.assert(
    fc.asyncProperty(observations, async (observed) => {
      const [ours, theirs] = [new Registry(), new Registry()];
      const histogram = new LatencyHistogram(ours, { ...about, bounds });
      const model = new Histogram({ ...about, labelNames: ['status'], buckets: bounds, registers: [theirs] });
      const series = new Map<string, (seconds: number) => void>();
      for (const [status, value] of observed) {
        const observe = series.get(status) ?? histogram.of({ status });
        series.set(status, observe);
        observe(value);
        model.observe({ status }, value);
      }
      assert.equal(await ours.metrics(), await theirs.metrics());
      const summed = async (registry: Registry): Promise<string> => {
        const metrics = await registry.getMetricsAsJSON();
        // As they go from process to process.
        const sent = JSON.parse(JSON.stringify(metrics)) as typeof metrics;
        return AggregatorRegistry.aggregate([sent, sent]).metrics();
      };
      assert.equal(await summed(ours), await summed(theirs));
    }),
    { numRuns: 100 },
  );
});

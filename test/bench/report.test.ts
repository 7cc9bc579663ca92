import assert from 'node:assert/strict';
import { test } from 'node:test';
import { htmlOf } from '../../bench/html.js';
import type { Sample } from '../../bench/measure.js';
import { markdownOf } from '../../bench/report.js';
import type { Report } from '../../bench/report.js';

const sample: Sample = {
  generator: 'wrk',
  sentPerSecond: 100,
  requestsPerSecond: 100,
  eventsPerSecond: 100,
  seconds: 1,
  p50: 1,
  p95: 2,
  p99: 3,
  p999: 4,
  success: 1,
  cpuMainPerEvent: 10,
  cpuEnginePerEvent: null,
  cpuOtherPerEvent: 1,
  cpuGeneratorPerEvent: 2,
  memoryMb: 60,
  writtenBytesPerEvent: null,
  fsyncsPerSecond: null,
  stored: null,
};
const closed = { scenario: 'single', rate: null, toCopy: null };
const report: Report = {
  machine: {
    commit: 'abc',
    node: 'v20',
    kernel: '6',
    processor: 'A & B <fast>',
    processors: 2,
    memoryGb: 8,
    loadBefore: 0.1,
    generator: 'wrk 4',
    startedAt: '2026-11-22T00:00:00.000Z',
  },
  rounds: 3,
  seconds: 1,
  connections: 10,
  scenarios: [{ name: 'single', what: 'one event a request', connectionsMax: 10_000 }],
  series: [
    {
      ...closed,
      target: 'bare',
      toBare: 1,
      samples: [80, 100, 130].map((requestsPerSecond) => ({ ...sample, requestsPerSecond })),
    },
    { ...closed, target: 'sluice', toBare: 0.5, samples: [{ ...sample, success: 0.99996, stored: 1 }] },
    {
      scenario: 'single',
      target: 'sluice',
      rate: 50,
      toBare: null,
      toCopy: null,
      samples: [{ ...sample, lateP99: 0.5 }],
    },
  ],
};

test('the table has medians with what they lie between, and never rounds a failure away', () => {
  const rows = markdownOf(report).split('\n');
  const [bare = '', sluice = ''] = ['| bare |', '| sluice |'].map((start) => rows.find((row) => row.startsWith(start)));
  assert.match(bare, /^\| bare \| 100 \(80 … 130\) \|.* 100 \|$/);
  assert.match(sluice, / 0\.5 \|.* 99\.996 \|$/);
  assert.ok(
    rows.some((row) => /^\| sluice \| 50 \|.* 0\.5 \|$/.test(row)),
    'the open loop has its rate and its lateness',
  );
});

test('the page needs nothing from elsewhere, and what is in it is text', () => {
  const page = htmlOf(report);
  assert.doesNotMatch(page, /<script|<link|<img|\bsrc=|https?:\/\/|@import|url\(/);
  assert.ok(page.includes('A &#38; B &#60;fast&#62;') && !page.includes('<fast>'));
  assert.match(page, /prefers-color-scheme: dark/);
  // Three charts of two bars with whiskers, one of processor time, one of the open loop's bar.
  assert.equal(page.match(/<svg /g)?.length, 5);
  assert.equal(page.match(/class="whiskers"/g)?.length, 7);
  assert.doesNotMatch(page, /NaN|undefined|Infinity/);
});

/** `npm run bench` for seconds: its figures mean nothing then, but they have to be there, and add up. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writtenToDisk } from '../../bench/disk.js';
import { measureRound, prepare } from '../../bench/measure.js';
import { readUsage } from '../../bench/processes.js';
import { chosenScenarios } from '../../bench/scenarios.js';
import { startSluice } from '../../bench/targets.js';

const main = fileURLToPath(import.meta.resolve('../../bench/main.js'));
const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-command-'));
after(() => rmSync(folder, { recursive: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function bench(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { cwd: folder, timeout: 120_000 },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

const briefly = ['--engines', 'embedded', '--connections', '4', '--rounds', '2', '--seconds', '1'];

describe('npm run bench', () => {
  it('--starts tells how long the program takes on new storage and again', async () => {
    const { code, stdout, stderr } = await bench('--starts', ...briefly);
    assert.equal(code, 0, stderr);
    const times = /sluice, embedded\W+(\d+) \((\d+) … (\d+)\)\W+(\d+) \((\d+) … (\d+)\)/
      .exec(stdout)
      ?.slice(1)
      .map(Number);
    assert.ok(times !== undefined && times.every((ms) => ms > 50 && ms < 60_000), stdout);
  });

  it('--steady tells requests and memory of each stretch', async () => {
    const { code, stdout, stderr } = await bench('--steady', ...briefly);
    assert.equal(code, 0, stderr);
    const stretches = [...stdout.matchAll(/'sluice, embedded' │ (\d+) +│ (\d+) +│ [\d.]+ +│ (\d+|null)/g)];
    assert.deepEqual(
      stretches.map(([, stretch]) => stretch),
      ['1', '2'],
      stdout,
    );
    assert.ok(
      stretches.every(([, , requests]) => Number(requests) > 10),
      stdout,
    );
  });

  for (const [args, said] of [
    [['--rounds', '0'], '--rounds is a whole number above 0'],
    [['--scenarios', 'singel'], 'single'],
    [['--engines', 'sqlite'], 'there are embedded and postgres'],
    [['--speed'], '--help says what there is'],
    [['--target', 'http://192.0.2.1:8080'], 'on this machine only'],
  ] as const) {
    it(`refuses ${args.join(' ')} with what would do, before it starts anything`, async () => {
      const { code, stdout, stderr } = await bench(...args);
      assert.equal(code, 1);
      assert.equal(stdout, '');
      assert.ok(stderr.includes(said), stderr);
    });
  }
});

it('a round has every figure, and of all events acknowledged the database has every one', async () => {
  const target = await startSluice('embedded');
  assert.ok(target !== null);
  const [scenario] = chosenScenarios('batch-100');
  assert.ok(scenario !== undefined);
  try {
    const prepared = await prepare(target, scenario);
    const sample = await measureRound(prepared, scenario, { connections: 4, seconds: 1, rate: null });
    assert.equal(sample.success, 1);
    assert.equal(sample.stored, 1);
    assert.ok(sample.p50 <= sample.p95 && sample.p95 <= sample.p99 && sample.p99 <= sample.p999);
    assert.ok((sample.fsyncsPerSecond ?? 0) > 1, `${sample.fsyncsPerSecond} syncs a second`);
    // Where the system has the figures; what is written is at least the payloads, once in the log.
    if (writtenToDisk() !== null)
      assert.ok((sample.writtenBytesPerEvent ?? 0) > 300, `${sample.writtenBytesPerEvent} bytes`);
    // Not outside of Linux, nor where the kernel counts no time on processors. That of a generator which is a process of its own is cut to 10 ms.
    if (readUsage([process.pid]) === null) return;
    assert.notEqual(sample.cpuGeneratorPerEvent, null);
    for (const figure of ['cpuMainPerEvent', 'cpuEnginePerEvent', 'memoryMb'] as const)
      assert.ok((sample[figure] ?? 0) > 0, `${figure}: ${sample[figure]}`);
  } finally {
    await target.stop();
  }
});

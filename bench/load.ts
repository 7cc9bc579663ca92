import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Target } from './targets.js';

/** One run of the load generator against one target. Times in milliseconds. */
export interface LoadResult {
  readonly requestsPerSecond: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** Of all requests, those answered with a 2xx: 0 to 1. */
  readonly success: number;
}

export interface Load {
  readonly connections: number;
  readonly seconds: number;
  readonly body: string;
}

/** Fails with what to install, where the load generator is missing. */
export function requireLoadGenerator(): void {
  try {
    execFileSync('wrk', ['--version'], { stdio: 'ignore' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new Error('the benchmark needs the load generator wrk: on Debian, apt-get install wrk', { cause: error });
    }
  }
}

/** Sends `load.body` to a target on this machine, over and over, on every connection, for a bounded time. */
export async function runLoad(target: Target, load: Load): Promise<LoadResult> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  try {
    const script = join(folder, 'load.lua');
    writeFileSync(script, luaScript(target, load.body));
    const args = ['-t1', `-c${load.connections}`, `-d${load.seconds}s`, '--timeout', '10s', '-s', script];
    const { stdout } = await promisify(execFile)('wrk', [...args, `${target.address}/v1/events`]);
    const summary = /^SUMMARY (.*)$/m.exec(stdout)?.[1];
    if (summary === undefined) throw new Error(`no summary from wrk: ${stdout}`);
    const { requests, microseconds, failed, p50, p95, p99 } = JSON.parse(summary) as Record<string, number>;
    return {
      requestsPerSecond: (requests! / microseconds!) * 1e6,
      p50: p50! / 1000,
      p95: p95! / 1000,
      p99: p99! / 1000,
      success: requests === 0 ? 0 : 1 - failed! / requests!,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function luaScript(target: Target, body: string): string {
  return `
wrk.method = "POST"
wrk.body = ${JSON.stringify(body)}
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer ${target.key}"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('SUMMARY {"requests":%d,"microseconds":%d,"failed":%d,"p50":%d,"p95":%d,"p99":%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
`;
}

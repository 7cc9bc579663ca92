/** Load on one address of this machine, by `wrk` where it is installed, else by the generator of this folder. */
import { execFileSync } from 'node:child_process';
import type { Plan } from './plan.js';
import { requireLoopback } from './plan.js';
import { runGenerator } from './generator-process.js';
import { runWrk } from './wrk.js';

/** One run of a load generator. Times in milliseconds. */
export interface LoadResult {
  readonly generator: string;
  readonly sentPerSecond: number;
  /** Those answered with a 2xx. */
  readonly requestsPerSecond: number;
  /** Stored, or received and acknowledged, as the replies say. */
  readonly eventsPerSecond: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly p999: number;
  /** Of all requests, those answered with a 2xx: 0 to 1. In an open loop those count that were never sent, too. */
  readonly success: number;
  /** Open loop: how late the generator itself was, at worst for 99 %: if this is not small, it measured itself. */
  readonly lateP99?: number;
}

export interface PlannedLoad {
  readonly address: string;
  readonly plan: Plan;
  readonly connections: number;
  readonly seconds: number;
  /** Requests per second, sent when they are due whatever became of those before (an open loop). Null: each connection sends as soon as it can. */
  readonly rate: number | null;
}

/** Of the single events that the modes `--reads` and `--flood` send. */
export interface Load {
  readonly connections: number;
  readonly seconds: number;
  readonly body: string;
}

/** What `wrk --version` says, or null where it is not installed. */
export function wrkVersion(): string | null {
  try {
    // It prints its version and exits with 1.
    execFileSync('wrk', ['--version'], { stdio: 'pipe' });
    return 'wrk';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    const said = String((error as { stdout?: Buffer }).stdout ?? '');
    return /^wrk \S+/.exec(said)?.[0] ?? 'wrk';
  }
}

let wrk: string | null | undefined;

/** The generator that closed loops are run by. */
export function closedLoopGenerator(): string {
  wrk ??= wrkVersion();
  return wrk ?? 'the generator of bench/';
}

/** Runs the load to its end. Throws, before any packet, unless the address is one of this machine. */
export async function runPlan(load: PlannedLoad): Promise<LoadResult> {
  requireLoopback(load.address);
  wrk ??= wrkVersion();
  return load.rate === null && wrk !== null ? runWrk(load, wrk) : runGenerator(load);
}

/** Sends the event `load.body` over and over, on every connection, for a bounded time. */
export function runLoad(
  { address, key }: { readonly address: string; readonly key: string },
  { connections, seconds, body }: Load,
): Promise<LoadResult> {
  const single = { method: 'POST', path: '/v1/events', contentType: 'application/json', body, events: 1 } as const;
  return runPlan({ address, plan: { keys: [key], cycle: [single] }, connections, seconds, rate: null });
}

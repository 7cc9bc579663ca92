import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { closedLoopGenerator } from './load.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** What a reader has to know of where figures come from. */
export interface Machine {
  /** With `+` where the sources differ from it. */
  readonly commit: string;
  readonly node: string;
  readonly kernel: string;
  readonly processor: string;
  readonly processors: number;
  readonly memoryGb: number;
  /** Of the last minute, before the start: what else kept the machine busy. */
  readonly loadBefore: number;
  readonly generator: string;
  readonly startedAt: string;
}

export function describeMachine(): Machine {
  return {
    commit: commitOf('HEAD') + (git('status', '--porcelain') === '' ? '' : '+'),
    node: process.version,
    kernel: release(),
    processor: cpus()[0]?.model ?? 'unknown',
    processors: availableParallelism(),
    memoryGb: Math.round(totalmem() / 2 ** 30),
    loadBefore: loadavg()[0] ?? 0,
    generator: closedLoopGenerator(),
    startedAt: new Date().toISOString(),
  };
}

/** The first 12 digits of a commit. Throws where there is no such commit. */
export function commitOf(name: string): string {
  return git('rev-parse', '--verify', '--short=12', `${name}^{commit}`);
}

export function git(...args: readonly string[]): string {
  return execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

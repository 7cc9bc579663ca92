/** What processes have used so far, as Linux counts it in /proc. Elsewhere, or where it may not be read, there are no figures. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

export interface Usage {
  /** Nanoseconds on a processor, by `pid/thread`. */
  readonly threads: ReadonlyMap<string, number>;
  /** Largest resident memory of each since `forgetPeaks`, added up. */
  readonly peakBytes: number;
}

/** Of these processes and all that they started. Null without /proc. */
export function readUsage(roots: readonly number[]): Usage | null {
  const threads = new Map<string, number>();
  let peakBytes = 0;
  const pids = roots.flatMap(treeOf);
  for (const pid of pids) {
    for (const thread of list(`/proc/${pid}/task`)) {
      // Runs of a thread, to the nanosecond; /proc/…/stat counts in hundredths of a second.
      const ns = read(`/proc/${pid}/task/${thread}/schedstat`)?.split(' ')[0];
      if (ns !== undefined) threads.set(`${pid}/${thread}`, Number(ns));
    }
    peakBytes += 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0);
  }
  return threads.size === 0 ? null : { threads, peakBytes };
}

/** From now on the largest memory is counted anew, where that is allowed. */
export function forgetPeaks(roots: readonly number[]): void {
  for (const pid of roots.flatMap(treeOf)) {
    try {
      writeFileSync(`/proc/${pid}/clear_refs`, '5');
    } catch {
      // Then the largest since its start is all that can be told.
    }
  }
}

/** Time on a processor between two readings, in microseconds. */
export interface Spent {
  /** Of the main threads. */
  readonly main: number;
  /** Of the one other thread that worked most. */
  readonly busiest: number;
  /** Of all others. */
  readonly others: number;
}

export function spentBetween(before: Usage | null, after: Usage | null): Spent | null {
  if (before === null || after === null) return null;
  let [main, busiest, others] = [0, 0, 0];
  for (const [thread, ns] of after.threads) {
    const spent = (ns - (before.threads.get(thread) ?? 0)) / 1000;
    const [pid, id] = thread.split('/');
    if (pid === id) main += spent;
    else others += spent;
    if (pid !== id) busiest = Math.max(busiest, spent);
  }
  return { main, busiest, others: others - busiest };
}

/** Microseconds on a processor of all children of this process that have ended; steps of a hundredth of a second. */
export function spentByEndedChildren(): number | null {
  // The name in brackets may hold anything; user and system time of children are the 16th and 17th field.
  const fields = read('/proc/self/stat')
    ?.replace(/^.*\) /, '')
    .split(' ');
  if (fields === undefined) return null;
  return (Number(fields[13]) + Number(fields[14])) * 10_000;
}

function treeOf(pid: number): number[] {
  const children = list(`/proc/${pid}/task`).flatMap((thread) =>
    (read(`/proc/${pid}/task/${thread}/children`) ?? '').split(' ').filter((child) => child !== ''),
  );
  return [pid, ...children.map(Number).flatMap(treeOf)];
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Undefined for a process or a thread that has ended. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/**
 * Loaded into a server by the benchmark, to try the benchmark itself: after each millisecond the main thread wastes as much time as `BENCH_SLOWDOWN` says
 * (0.2: a fifth) of what it has worked since. No part of the program knows of it.
 */
import { performance } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

const share = Number(process.env['BENCH_SLOWDOWN']);
if (isMainThread && share > 0) {
  let last = performance.eventLoopUtilization();
  setInterval(() => {
    const worked = performance.eventLoopUtilization(last).active;
    const wastedUntilMs = performance.now() + worked * share;
    while (performance.now() < wastedUntilMs);
    last = performance.eventLoopUtilization();
  }, 1).unref();
}

/** The process that starts the workers, starts one again that has ended, and ends with them. It takes no request and keeps no connection. */
import cluster from 'node:cluster';
import { keepAlive, systemClock } from '../clock.js';
import type { Config } from '../config.js';
import { createLogger } from '../log.js';
import { stopOnSignal } from './shutdown.js';
import { announce, exitOnUnexpected, failStart, say, stopMarginSeconds } from './start.js';
import { FirstWorkerEnded, WorkerPool } from './worker-pool.js';
import type { Prepare } from './workers.js';

/** What the last worker's end may take to be heard of, beyond the worker's own limit. */
const hearingSeconds = 2;

/** Resolves when all workers serve and that has been said; from then on signals decide, or workers that end again and again. */
export async function runPrimary(
  config: Config,
  notices: readonly string[],
  prepare: Prepare,
  module: string,
  beatMs: number,
): Promise<void> {
  const log = createLogger(config.logLevel);
  exitOnUnexpected(log);
  // While a worker that ended is waited for, there may be nothing else that does.
  keepAlive();
  for (const notice of notices) say(notice);
  // Round robin, since connections stay: where the workers take them from the system themselves, one can get all of a client that opens several at once.
  cluster.schedulingPolicy = cluster.SCHED_RR;
  // 'advanced' keeps what is no number in a metric.
  cluster.setupPrimary({ exec: module, args: process.argv.slice(2), serialization: 'advanced' });

  const workers = new WorkerPool({
    count: config.workers,
    beatMs,
    clock: systemClock,
    log,
    onGivenUp: (end) => {
      say(
        `Workers end soon after their start, again and again (the last one by ${end}): giving up. What they wrote says why.`,
      );
      shutdown.begin('workers end again and again');
    },
  });
  const preparing = prepare(config, log, say);
  const shutdown = stopOnSignal(
    async () => {
      await preparing.catch(() => {});
      await workers.stop();
    },
    { limitSeconds: config.shutdownSeconds + stopMarginSeconds + hearingSeconds, log, clock: systemClock },
  );
  // After a second signal, or a stop that took too long. If this process fails otherwise, the workers drain.
  process.on('exit', () => {
    if (shutdown.isStopping()) workers.kill();
  });

  try {
    await preparing;
  } catch (error) {
    failStart(error, config, log);
  }
  if (shutdown.isStopping()) return;
  try {
    const address = await workers.start();
    if (shutdown.isStopping()) return;
    const adminToken = { value: config.adminToken ?? '', path: null, isNew: false };
    const { role } = config;
    await announce({ address, engine: 'postgres', role, dataDir: null, adminToken, firstStart: null }, log);
  } catch (error) {
    if (!(error instanceof FirstWorkerEnded)) throw error;
    if (shutdown.isStopping()) return;
    if (error.signal !== null) say(`The first worker was ended by ${error.signal} before it was ready.`);
    process.exit(error.code === null || error.code === 0 ? 1 : error.code);
  }
}

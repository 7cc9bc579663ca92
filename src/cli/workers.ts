/** `sluice start --workers N`: a primary, which serves nothing, and N workers that share the port. This module is run by each of them. */
import cluster from 'node:cluster';
import type { Config } from '../config.js';
import type { Logger } from '../log.js';
import { beatMsDefault } from '../siblings.js';
import type { StartServer } from './start.js';

/** What is done once, before the first worker. */
export type Prepare = (config: Config, log: Logger, onProgress: (text: string) => void) => Promise<void>;

export interface WorkersProgram {
  readonly startServer: StartServer;
  readonly prepare: Prepare;
  /** The file that a worker runs, which gets the arguments of this process and comes here again. */
  readonly module: string;
  /** How often a worker says that it is alive; one that is silent for 15 times as long is killed. Default 2000. Shorter in tests. */
  readonly beatMs?: number;
}

export async function startWorkers(
  config: Config,
  notices: readonly string[],
  { startServer, prepare, module, beatMs = beatMsDefault }: WorkersProgram,
): Promise<void> {
  if (cluster.worker === undefined) {
    const { runPrimary } = await import('./primary.js');
    await runPrimary(config, notices, prepare, module, beatMs);
  } else {
    const { runWorker } = await import('./worker.js');
    await runWorker(config, startServer, cluster.worker, beatMs);
  }
}

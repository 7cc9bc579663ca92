/** `sluice start`: runs the server until a signal ends it. */
import type { RunningServer } from '../app.js';
import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import type { Config } from '../config.js';
import { createLogger } from '../log.js';
import type { Logger } from '../log.js';
import type { Siblings } from '../siblings.js';
import type { Announced } from './banner.js';
import { bannerLines, printBanner } from './banner.js';
import { failureSentence } from './failure.js';
import { stopOnSignal } from './shutdown.js';

/** What the process needs of the server: something to say, and its end. */
export type Startable = Parameters<typeof bannerLines>[0] & Pick<RunningServer, 'announced' | 'stop'>;
export type StartServer = (
  config: Config,
  log: Logger,
  onProgress: (text: string) => void,
  clock?: Clock,
  siblings?: Siblings,
) => Promise<Startable>;

/** What a stop may take beyond the time that requests have to finish: the flush, and closing the database. */
export const stopMarginSeconds = 5;

/**
 * Resolves when the server takes events and has said so; from then on signals decide. A start that fails is one sentence on standard error
 * and exit code 1; its stack is in the log at level debug.
 */
export async function start(config: Config, startServer: StartServer): Promise<void> {
  const log = createLogger(config.logLevel);
  exitOnUnexpected(log);

  // Before the start, so that no signal finds the process half started and unheard.
  let starting: Promise<Startable> | undefined;
  const shutdown = stopOnSignal(async () => (await starting)?.stop(), {
    limitSeconds: config.shutdownSeconds + stopMarginSeconds,
    log,
    clock: systemClock,
  });

  let server: Startable;
  try {
    starting = startServer(config, log, say);
    server = await starting;
  } catch (error) {
    failStart(error, config, log);
  }
  if (!shutdown.isStopping()) await announce(server, log);
}

/** Rejections that nobody handles end the process, too. */
export function exitOnUnexpected(log: Logger): void {
  process.on('uncaughtException', (error, origin) => {
    log.fatal({ err: error, origin }, 'unexpected failure: exiting');
    process.exit(1);
  });
}

export function failStart(error: unknown, config: Config, log: Logger): never {
  log.debug({ err: error }, 'the start failed');
  say(failureSentence(error, config));
  process.exit(1);
}

/** Prints the banner, once. Never rejects for want of a reader. */
export async function announce(server: Announced & Partial<Pick<Startable, 'announced'>>, log: Logger): Promise<void> {
  try {
    await printBanner(bannerLines(server));
  } catch (error) {
    log.warn({ err: error }, 'standard output is closed: nobody was told the address, nor a first key');
    return;
  }
  await server.announced?.();
}

/** To the person who starts it, as plain text; the log has its own lines. */
export function say(sentence: string): void {
  process.stderr.write(`${sentence}\n`);
}

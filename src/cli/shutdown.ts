/** From SIGTERM or SIGINT to the end of the process. */
import type { Clock } from '../clock.js';
import { flushed } from '../log.js';
import type { Logger } from '../log.js';

export interface ShutdownOptions {
  /** Seconds until a stop that has not ended is given up. */
  readonly limitSeconds: number;
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * One Ctrl-C arrives twice under `npm start`: from the terminal, and forwarded by npm. Only what comes later than this is a person who has
 * lost patience.
 */
const sameSignalMs = 500;

/** A log that nobody reads does not keep the process. */
const logFlushMsMax = 1000;

/**
 * On the first signal calls `stop` once and exits with 0 when it resolves, with 1 when it rejects or takes longer than the limit. A second
 * signal exits with 1 at once. Returns whether the first signal has come.
 */
export function stopOnSignal(stop: () => Promise<void>, { limitSeconds, log, clock }: ShutdownOptions): () => boolean {
  let firstAtMs: number | undefined;

  const onSignal = (signal: NodeJS.Signals): void => {
    if (firstAtMs !== undefined) {
      if (clock.monotonic() - firstAtMs < sameSignalMs) return;
      log.warn({ signal }, 'second signal: exiting without waiting');
      process.exit(1);
    }
    firstAtMs = clock.monotonic();
    log.info({ signal }, 'stopping');
    // Holds if nothing keeps the process alive any more although the stop never ended.
    process.exitCode = 1;
    clock.after(limitSeconds * 1000, () => {
      log.error({ limitSeconds }, 'the stop took too long: exiting without waiting');
      process.exit(1);
    });
    void stopped(stop, log).then(async (code) => {
      clock.after(logFlushMsMax, () => process.exit(code));
      await flushed(log);
      process.exit(code);
    });
  };

  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return () => firstAtMs !== undefined;
}

/** The exit code. */
async function stopped(stop: () => Promise<void>, log: Logger): Promise<0 | 1> {
  try {
    await stop();
    log.info('stopped');
    return 0;
  } catch (error) {
    log.error({ err: error }, 'the stop failed');
    return 1;
  }
}

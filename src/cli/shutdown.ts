/** From SIGTERM or SIGINT to the end of the process. */
import type { Clock } from '../clock.js';
import { flushed } from '../log.js';
import type { Logger } from '../log.js';

export interface ShutdownOptions {
  /** Seconds until a stop that has not ended is given up. */
  readonly limitSeconds: number;
  readonly log: Logger;
  readonly clock: Clock;
  /** Default SIGTERM and SIGINT. */
  readonly signals?: readonly NodeJS.Signals[];
}

export interface Shutdown {
  /** Whether it has begun. */
  isStopping(): boolean;
  /** As the first signal does, for another reason, which goes to the log. Nothing if it has begun. */
  begin(reason: string): void;
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
 * signal exits with 1 at once.
 */
export function stopOnSignal(
  stop: () => Promise<void>,
  { limitSeconds, log, clock, signals = ['SIGTERM', 'SIGINT'] }: ShutdownOptions,
): Shutdown {
  let isStopping = false;
  let firstAtMs: number | undefined;

  const onSignal = (signal: NodeJS.Signals): void => {
    if (firstAtMs !== undefined) {
      if (clock.monotonic() - firstAtMs < sameSignalMs) return;
      log.warn({ signal }, 'second signal: exiting without waiting');
      process.exit(1);
    }
    firstAtMs = clock.monotonic();
    begin({ signal });
  };
  const begin = (why: { readonly signal: string } | { readonly reason: string }): void => {
    if (isStopping) return;
    isStopping = true;
    log.info(why, 'stopping');
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

  for (const signal of signals) process.on(signal, onSignal);
  return { isStopping: () => isStopping, begin: (reason) => begin({ reason }) };
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

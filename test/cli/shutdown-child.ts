/** Signals on a stop that never ends, with time moved by messages: a number is milliseconds to pass. */
import { stopOnSignal } from '../../src/cli/shutdown.js';
import { say } from '../../src/cli/start.js';
import type { Clock } from '../../src/clock.js';
import { createLogger } from '../../src/log.js';

let nowMs = 0;
const timers: { readonly atMs: number; readonly fire: () => void }[] = [];
const clock: Clock = {
  now: () => nowMs,
  monotonic: () => nowMs,
  after(delayMs, fire) {
    timers.push({ atMs: nowMs + delayMs, fire });
    return () => undefined;
  },
};

process.on('message', (passedMs: number) => {
  nowMs += passedMs;
  for (const timer of timers) if (timer.atMs <= nowMs) timer.fire();
  say(`now ${nowMs}`);
});

const log = createLogger('info');
stopOnSignal(() => new Promise(() => say('stop called')), { limitSeconds: 15, log, clock });
// After the handler above, so that each signal is known to have been handled.
process.on('SIGINT', () => say('SIGINT handled'));
say('waiting');

/** One of the processes that share a port: it serves, and does what the primary says. */
import type { Worker } from 'node:cluster';
import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import type { Config } from '../config.js';
import { Problem } from '../errors.js';
import { createLogger } from '../log.js';
import type { Sibling, Siblings, Spent, ToPrimary, ToWorker } from '../siblings.js';
import { scrapeMsMax, SpentOutbox } from '../siblings.js';
import { stopOnSignal } from './shutdown.js';
import type { StartServer, Startable } from './start.js';
import { exitOnUnexpected, failStart, say, stopMarginSeconds } from './start.js';

/** Resolves when it serves and the primary knows. It drains and ends when the primary says so, is gone, or on SIGTERM. */
export async function runWorker(config: Config, startServer: StartServer, self: Worker, beatMs: number): Promise<void> {
  const log = createLogger(config.logLevel);
  exitOnUnexpected(log);

  let starting: Promise<Startable> | undefined;
  const shutdown = stopOnSignal(async () => (await starting)?.stop(), {
    limitSeconds: config.shutdownSeconds + stopMarginSeconds,
    log,
    clock: systemClock,
    signals: ['SIGTERM'],
  });
  // Ctrl-C reaches every process of the terminal's group; the primary, which gets it too, says what follows from it.
  process.on('SIGINT', () => {});
  self.on('disconnect', () => {
    // Without it, Node would end this process at once, with the requests it is at.
    self.exitedAfterDisconnect = true;
    shutdown.begin('the process that started this one has ended');
  });
  const channel = new PrimaryChannel(systemClock, () => shutdown.begin('the primary says so'));

  let server: Startable;
  try {
    starting = startServer(config, log, say, systemClock, channel);
    server = await starting;
  } catch (error) {
    failStart(error, config, log);
  }
  await channel.send({ kind: 'ready', address: server.address });
  void channel.beat(beatMs);
}

/** This process's end of the channel to the primary. A primary that is gone is sent nothing. */
class PrimaryChannel implements Siblings {
  readonly #outbox: SpentOutbox;
  #self: Sibling | null = null;
  #scraping: Promise<string> | null = null;
  #onScraped: (text: string | null) => void = () => {};

  constructor(
    private readonly clock: Clock,
    onStop: () => void,
  ) {
    this.#outbox = new SpentOutbox(clock, (spent) => this.send({ kind: 'spent', spent }));
    process.on('message', (message: ToWorker) => {
      if (message.kind === 'stop') onStop();
      else if (message.kind === 'spent') this.#self?.spentElsewhere(message.spent);
      else if (message.kind === 'scraped') this.#onScraped(message.text);
      else void this.#sendMetrics(message.scrape);
    });
  }

  join(self: Sibling): void {
    this.#self = self;
  }

  spent(spent: Spent): void {
    this.#outbox.add(spent);
  }

  /** One at a time, for whoever asks meanwhile as well. */
  scrape(): Promise<string> {
    this.#scraping ??= this.#scrape().finally(() => {
      this.#scraping = null;
    });
    return this.#scraping;
  }

  /** Until the primary is gone. The next waits for the last to be written, so that none pile up before a primary that is stopped. */
  async beat(everyMs: number): Promise<void> {
    await this.send({ kind: 'alive' });
    if (process.connected) this.clock.after(everyMs, () => void this.beat(everyMs));
  }

  /** Resolves when it is written, or cannot be. */
  send(message: ToPrimary): Promise<void> {
    return new Promise((resolve) => {
      if (process.send === undefined || !process.connected) resolve();
      else process.send(message, undefined, undefined, () => resolve());
    });
  }

  async #scrape(): Promise<string> {
    const text = new Promise<string | null>((resolve) => {
      const cancel = this.clock.after(scrapeMsMax, () => resolve(null));
      this.#onScraped = (scraped) => {
        cancel();
        resolve(scraped);
      };
    });
    void this.send({ kind: 'scrape' });
    const scraped = await text;
    if (scraped === null) {
      const detail = 'The processes of this node could not be asked for their metrics in time. Ask again later.';
      throw new Problem('overloaded', detail, { retryAfterSeconds: 1 });
    }
    return scraped;
  }

  async #sendMetrics(scrape: number): Promise<void> {
    if (this.#self !== null) await this.send({ kind: 'metrics', scrape, metrics: await this.#self.metrics() });
  }
}

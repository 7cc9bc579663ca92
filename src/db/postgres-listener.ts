import type { Clock } from '../clock.js';
import { ChannelHandlers, listenText } from './channels.js';
import { StorageError } from './database.js';
import { reasonOf } from './wire-errors.js';
import type { WireSession } from './wire-session.js';

export interface PostgresListenerOptions {
  readonly clock: Clock;
  readonly onLog: (line: string) => void;
  readonly open: (onNotification: (channel: string, payload: string) => void) => Promise<WireSession>;
}

const pauseMsMin = 100;
const pauseMsMax = 10_000;
/** How often a silent session is asked whether it still lives; the stall limit ends one that does not answer. */
const pingMs = 15_000;

/**
 * One connection of its own for LISTEN, which a pooler in transaction mode cannot share. Connects with the first channel; after a loss it
 * connects again by itself, with a growing pause, until it listens to every channel again, and reports the gap.
 */
export class PostgresListener {
  readonly #options: PostgresListenerOptions;
  readonly #channels = new ChannelHandlers();
  #session: Promise<WireSession> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;
  #pauseMs = pauseMsMin;
  #cancelRetry: () => void = () => {};
  #cancelPing: () => void = () => {};

  constructor(options: PostgresListenerOptions) {
    this.#options = options;
  }

  listen(channel: string, onNotify: (payload: string) => void, onGap?: () => void): Promise<() => Promise<void>> {
    return this.#channels.add(channel, { onNotify, onGap }, (text) => this.#run(text));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry();
    this.#cancelPing();
    const session = await this.#session?.catch(() => undefined);
    await session?.end();
  }

  /** One statement after the other, on the session there is or on a new one. */
  #run(text: string): Promise<void> {
    const done = this.#last.then(() => this.#runNow(text));
    this.#last = done.catch(() => {});
    return done;
  }

  async #runNow(text: string): Promise<void> {
    if (this.#closed) throw new StorageError('unavailable', 'the database is closed');
    this.#session ??= this.#connect();
    await (await this.#session).run(text);
  }

  async #connect(): Promise<WireSession> {
    try {
      const session = await this.#options.open((channel, payload) => this.#channels.notify(channel, payload));
      void session.ended.then(() => this.#lost());
      this.#pingLater();
      return session;
    } catch (error) {
      this.#session = undefined;
      throw error;
    }
  }

  #lost(): void {
    this.#session = undefined;
    this.#cancelPing();
    if (this.#closed) return;
    this.#options.onLog('the connection that listens for notifications was lost');
    this.#listenLater();
  }

  /** Whoever comes twice for one loss, as the connection and as the statement that ran on it, gets one timer. */
  #listenLater(): void {
    this.#cancelRetry();
    // Jitter, so that the nodes of a cluster do not all come back at once.
    const pauseMs = this.#pauseMs * (0.5 + Math.random());
    this.#pauseMs = Math.min(this.#pauseMs * 2, pauseMsMax);
    this.#cancelRetry = this.#options.clock.after(pauseMs, () => void this.#listenAgain());
  }

  async #listenAgain(): Promise<void> {
    const text = listenText(this.#channels.names);
    if (text === '') return;
    try {
      await this.#run(text);
    } catch (error) {
      if (this.#closed) return;
      // Refused or not reached: until it is heard, nobody knows what was missed.
      this.#options.onLog(`listening for notifications failed, and will be tried again: ${reasonOf(error)}`);
      this.#listenLater();
      return;
    }
    this.#pauseMs = pauseMsMin;
    this.#channels.gap();
  }

  #pingLater(): void {
    this.#cancelPing();
    this.#cancelPing = this.#options.clock.after(pingMs, () => {
      const again = (): void => {
        // A failure may also have ended the session, which is noticed there.
        if (!this.#closed && this.#session) this.#pingLater();
      };
      this.#run('SELECT 1').then(again, again);
    });
  }
}

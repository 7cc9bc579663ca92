import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { StorageError } from '../db/database.js';
import type { EventRow } from '../db/sql/events.js';
import type { TypeFilter } from '../db/sql/type-filter.js';
import { Problem } from '../errors.js';
import type { LogPlace } from '../event-log/list.js';
import type { Tail } from '../event-log/tail.js';
import { readTail } from '../event-log/tail.js';
import type { Wakeups } from '../event-log/wakeups.js';
import type { KeyWatch } from './key-watch.js';
import type { BodyStream } from './route.js';
import { Turns } from './turns.js';

/** Streams that may be open at one time on this node, of one org and of all. */
export const streamsPerOrgMax = 100;
export const streamsMax = 1_000;
/** What a stream reads at once, and so what it holds for a client that is slow: as much as this, or one event. */
export const streamPageBytesMax = 64 * 1024;
const pageEventsMax = 100;
/** Streams that read at one time: they share the sessions of the database with everybody else. */
const readersMax = 4;
const commentMs = 15_000;
/** Without any notification, a stream looks again after this time: the net under the messages between nodes. */
const pollMs = 5_000;
/** A storage that fails is tried again so often, before the client has to come again. */
const retryMs = 1_000;
const retriesMax = 30;

export interface EventStreamsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly wakeups: Wakeups;
  readonly keyWatch: KeyWatch;
  readonly onFailure: (error: unknown) => void;
}

export interface StreamRequest {
  readonly org: string;
  /** The credentials. */
  readonly headers: IncomingHttpHeaders;
  /** Aborted when the client is gone. */
  readonly gone: AbortSignal;
}

export interface StreamedEvents {
  readonly place: LogPlace;
  readonly types: TypeFilter | null;
  readonly wantsPayload: boolean;
  /** An event as its lines. */
  readonly render: (event: EventRow) => string;
}

/** The streams that are open on this node. */
export class EventStreams {
  readonly #options: EventStreamsOptions;
  readonly #turns = new Turns(readersMax);
  readonly #open = new Set<EventStream>();
  readonly #perOrg = new Map<string, number>();
  #draining = false;

  constructor(options: EventStreamsOptions) {
    this.#options = options;
  }

  get open(): number {
    return this.#open.size;
  }

  /** Takes a place among the streams until the client is gone. Throws `overloaded` where there is none, or the node is stopping. */
  enter(request: StreamRequest): EventStream {
    const ofOrg = this.#perOrg.get(request.org) ?? 0;
    if (this.#draining) throw full('This node is stopping. Connect again.');
    if (ofOrg >= streamsPerOrgMax) throw full(`${streamsPerOrgMax} streams of this organisation are open. Close some.`);
    if (this.#open.size >= streamsMax) throw full('Too many streams are open here. Try again later, or list events.');
    const stream = new EventStream(this.#options, this.#turns, request.org);
    this.#open.add(stream);
    this.#perOrg.set(request.org, ofOrg + 1);
    const { org, headers, gone } = request;
    const unwatch = this.#options.keyWatch.watch({ org, headers, scope: 'events:read' }, () => stream.end());
    const leave = (): void => {
      unwatch();
      this.#leave(stream);
    };
    gone.addEventListener('abort', leave, { once: true });
    if (gone.aborted) leave();
    return stream;
  }

  /** Ends every stream, and opens none from now on: the node is stopping. */
  drain(): void {
    this.#draining = true;
    for (const stream of this.#open) stream.end();
  }

  #leave(stream: EventStream): void {
    stream.end();
    if (!this.#open.delete(stream)) return;
    const left = (this.#perOrg.get(stream.org) ?? 0) - 1;
    if (left > 0) this.#perOrg.set(stream.org, left);
    else this.#perOrg.delete(stream.org);
  }
}

/** One client that reads along. */
export class EventStream {
  readonly org: string;
  readonly #options: EventStreamsOptions;
  readonly #turns: Turns;
  #woken = false;
  #ended = false;
  /** What was written waits for the client to read. */
  #full = false;
  #resume: () => void = () => {};

  constructor(options: EventStreamsOptions, turns: Turns, org: string) {
    this.org = org;
    this.#options = options;
    this.#turns = turns;
  }

  end(): void {
    this.#ended = true;
    this.#resume();
  }

  /** Writes events as they come. Resolves when the stream was ended, or the storage failed for longer than a client should wait. */
  async run(body: BodyStream, { place, ...events }: StreamedEvents): Promise<void> {
    const { clock, wakeups, database } = this.#options;
    // Before the first look, so that what is appended between a look and the wait after it is not missed.
    const unwatch = wakeups.watch(this.org, this.#wake);
    const idleMs = database.engine === 'embedded' ? Infinity : pollMs;
    let commentAtMs = clock.monotonic() + commentMs;
    let failures = 0;
    try {
      while (!this.#ended && failures <= retriesMax) {
        this.#woken = false;
        const tail = await this.#look(place, events);
        if (tail === null || this.#ended) return;
        failures = tail === 'failed' ? failures + 1 : 0;
        if (tail !== 'failed') {
          place = tail.place;
          if (tail.events.length > 0) await this.#write(body, tail.events.map(events.render).join(''));
        }
        if (clock.monotonic() >= commentAtMs) {
          await this.#write(body, ': still here\n\n');
          commentAtMs = clock.monotonic() + commentMs;
        }
        if (tail !== 'failed' && tail.more) continue;
        await this.#sleep(Math.min(commentAtMs - clock.monotonic(), tail === 'failed' ? retryMs : idleMs));
      }
    } catch (error) {
      this.#options.onFailure(error);
    } finally {
      unwatch();
    }
  }

  #look(place: LogPlace, events: Omit<StreamedEvents, 'place'>): Promise<Tail | 'failed' | null> {
    const { types, wantsPayload } = events;
    const page = { limit: pageEventsMax, bytesMax: streamPageBytesMax };
    return this.#turns.take(async () => {
      if (this.#ended) return null;
      try {
        return await readTail(this.#options.database, { org: this.org, place, types, wantsPayload, ...page });
      } catch (error) {
        if (error instanceof StorageError) return 'failed';
        throw error;
      }
    });
  }

  /** Resolves when the client may be sent more: until then nothing more is read for it. */
  async #write(body: BodyStream, text: string): Promise<void> {
    this.#full = !body.write(text);
    if (this.#full) {
      body.once('drain', () => {
        this.#full = false;
        this.#resume();
      });
    }
    while (this.#full && !this.#ended) await this.#pause();
  }

  async #sleep(ms: number): Promise<void> {
    const cancel = this.#options.clock.after(Math.max(0, ms), this.#wake);
    while (!this.#woken && !this.#ended) await this.#pause();
    cancel();
  }

  readonly #wake = (): void => {
    this.#woken = true;
    this.#resume();
  };

  #pause(): Promise<void> {
    return new Promise((resume) => {
      this.#resume = resume;
    });
  }
}

function full(detail: string): Problem {
  return new Problem('overloaded', detail, { retryAfterSeconds: 5 });
}

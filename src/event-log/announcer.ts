import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { StorageError } from '../db/database.js';
import { appendedChannel, notifyAppended } from '../db/sql/notifications.js';
import type { Service } from '../lifecycle.js';
import { Rest } from '../rest.js';
import type { Wakeups } from './wakeups.js';

/** PostgreSQL takes less than 8,000 bytes in one notification; ids are cut well below. */
const notificationBytesMax = 4_000;
/** Of one message. Where more logs have grown, everyone who waits is told to look. */
const orgsMax = 1_000;
/** Stands for every org. */
const everyone = '*';
/** The least time between two messages of a node: PostgreSQL commits one transaction with a notification after the other, over all nodes. */
const messageMsMin = 20;
/** Between two tries of a node that could not listen at its start. */
const listenAgainMs = 10_000;

/**
 * Tells everyone who waits that logs have grown: this node's waiters at once, other nodes by NOTIFY after the commit (inside the
 * transaction it would serialise all commits), one at a time, coalesced, at most every 20 ms. A lost notification costs a poll interval, never an
 * event; so a node that cannot listen starts all the same, and tries again every 10 s.
 */
export class Announcer implements Service {
  readonly name = 'announcer';
  #unheard = new Set<string>();
  #sending: Promise<void> | null = null;
  /** What is appended meanwhile goes out together. */
  readonly #rest: Rest;
  #isStarted = false;
  #unlisten: (() => Promise<void>) | null = null;
  #cancelListen: () => void = () => {};

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly wakeups: Wakeups,
    private readonly onFailure: (error: unknown) => void,
  ) {
    this.#rest = new Rest(clock);
  }

  /** Rejects where listening is refused by the settings, such as an address that leads to a pooler. */
  async start(): Promise<void> {
    // The embedded engine has no other node.
    if (this.database.engine === 'embedded' || this.#isStarted) return;
    this.#isStarted = true;
    try {
      await this.#listen();
    } catch (error) {
      this.#isStarted = false;
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#isStarted = false;
    this.#cancelListen();
    this.#rest.cutShort();
    await this.#sending;
    // Not awaited: a storage that is gone or silent must not keep the node from stopping, and the connection is about to be closed.
    void this.#unlisten?.().catch(() => {});
    this.#unlisten = null;
  }

  /** Called after the commit of a batch, with its orgs. */
  appended(orgs: Iterable<string>): void {
    for (const org of orgs) {
      this.wakeups.appended(org);
      if (this.#isStarted && this.#unheard.size <= orgsMax) this.#unheard.add(org);
    }
    if (this.#unheard.size > 0) this.#sending ??= this.#sendAll();
  }

  async #listen(): Promise<void> {
    try {
      this.#unlisten = await this.database.listen(
        appendedChannel,
        (payload) => this.#heard(payload),
        () => this.wakeups.wakeAll(),
      );
    } catch (error) {
      if (!mayPass(error)) throw error;
      this.onFailure(error);
      this.#cancelListen = this.clock.after(listenAgainMs, () => void this.#listenAgain());
    }
  }

  async #listenAgain(): Promise<void> {
    if (!this.#isStarted) return;
    await this.#listen().catch(this.onFailure);
    if (this.#unlisten !== null) this.wakeups.wakeAll();
  }

  #heard(payload: string): void {
    if (payload === everyone) this.wakeups.wakeAll();
    else for (const org of payload.split(',')) this.wakeups.appended(org);
  }

  async #sendAll(): Promise<void> {
    while (this.#unheard.size > 0) {
      const orgs = this.#unheard;
      this.#unheard = new Set();
      try {
        await notifyAppended(this.database, orgs.size > orgsMax ? [everyone] : packIds(orgs));
      } catch (error) {
        this.onFailure(error);
      }
      if (this.#isStarted) await this.#rest.take(messageMsMin);
    }
    this.#sending = null;
  }
}

/** Not where the address or the server can never do it. */
function mayPass(error: unknown): boolean {
  return error instanceof StorageError && (error.kind === 'unavailable' || error.sqlstate !== undefined);
}

/** Comma-separated lists of at most `notificationBytesMax` bytes. */
function packIds(orgs: Iterable<string>): string[] {
  const packed: string[] = [];
  let current = '';
  for (const org of orgs) {
    if (current.length + org.length + 1 > notificationBytesMax) {
      packed.push(current);
      current = '';
    }
    current = current === '' ? org : `${current},${org}`;
  }
  if (current !== '') packed.push(current);
  return packed;
}

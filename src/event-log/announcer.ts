import type { Database } from '../db/database.js';
import { appendedChannel, notifyAppended } from '../db/sql/notifications.js';
import type { Service } from '../lifecycle.js';
import type { Wakeups } from './wakeups.js';

/** PostgreSQL takes less than 8,000 bytes in one notification; ids are cut well below. */
const notificationBytesMax = 4_000;

/**
 * Tells everyone who waits that logs have grown: this node's waiters at once, other nodes by NOTIFY after the commit (inside the
 * transaction it would serialise all commits), one at a time, coalesced. A lost notification costs a poll interval, never an event.
 */
export class Announcer implements Service {
  readonly name = 'announcer';
  #unheard = new Set<string>();
  #sending: Promise<void> | null = null;
  #unlisten: (() => Promise<void>) | null = null;

  constructor(
    private readonly database: Database,
    private readonly wakeups: Wakeups,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  async start(): Promise<void> {
    // The embedded engine has no other node.
    if (this.database.engine === 'embedded') return;
    this.#unlisten ??= await this.database.listen(
      appendedChannel,
      (payload) => payload.split(',').forEach((org) => this.wakeups.appended(org)),
      () => this.wakeups.wakeAll(),
    );
  }

  async stop(): Promise<void> {
    await this.#sending;
    // A storage that is gone notifies nobody any more, and must not keep the node from stopping.
    await this.#unlisten?.().catch(this.onFailure);
    this.#unlisten = null;
  }

  /** Called after the commit of a batch, with its orgs. */
  appended(orgs: Iterable<string>): void {
    for (const org of orgs) {
      this.wakeups.appended(org);
      if (this.#unlisten !== null) this.#unheard.add(org);
    }
    if (this.#unheard.size > 0) this.#sending ??= this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    while (this.#unheard.size > 0) {
      const orgs = this.#unheard;
      this.#unheard = new Set();
      try {
        await notifyAppended(this.database, packIds(orgs));
      } catch (error) {
        this.onFailure(error);
      }
    }
    this.#sending = null;
  }
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

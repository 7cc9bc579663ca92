import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { endHeadBlockers } from '../db/sql/blocked-heads.js';

/**
 * A batch that takes this long may be waiting for a head. Above what a batch takes, as a look costs a statement of 1 or 2 ms; and so short that there are
 * several in the 1 s that a batch may wait for a lock, or the next chance would be a second later.
 */
const lookMs = 250;
/** A head is held from a batch's reserve to its commit: milliseconds. */
const heldMsMax = 3_000;

/**
 * Frees heads that a stopped node holds. A node that is paused in the middle of a batch, or whose machine is gone, keeps the heads of the batch's
 * orgs locked, for every other node; and while a COPY waits for its client, no time limit of the server applies. So while a batch takes
 * long, sessions of Sluice's own login that have made others wait for a head, in a transaction of more than 3 s, are ended.
 */
export class BlockedHeads {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly onEnded: (sessions: number) => void,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  /** Called when a batch begins; returns what to call when it is over. */
  watch(): () => void {
    // The embedded engine has one session, which nobody else can block.
    if (this.database.engine === 'embedded') return () => {};
    let over = false;
    let cancel: (() => void) | null = null;
    const look = async (): Promise<void> => {
      try {
        const ended = await endHeadBlockers(this.database, heldMsMax);
        if (ended > 0) this.onEnded(ended);
      } catch (error) {
        this.onFailure(error);
      }
      if (!over) schedule();
    };
    const schedule = (): void => {
      cancel = this.clock.after(lookMs, () => void look());
    };
    schedule();
    return () => {
      over = true;
      cancel?.();
    };
  }
}

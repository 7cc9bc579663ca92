import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { dueLeases, settleLeases } from '../db/sql/leases.js';
import { lockIfAnything } from '../db/sql/subscriptions.js';
import { acknowledgeLease } from './acknowledge.js';
import type { Received, ReceiveRequest, Writes } from './receive.js';
import { advance, noChange, nothing, readAhead, receive, verifyWrites } from './receive.js';

/** Requests, and events that they may receive, in one transaction. */
const requestsMax = 32;
const eventsMax = 1_000;
/** Who finds more before it does not wait for its turn. */
const waitingMax = 1_000;
/** Nobody waits longer than this for others: each goes on alone then, and is held up or refused as by the database itself. */
const turnMsMax = 1_000;

/** A request that waits for its turn, and what it does without the others. */
interface Waiting {
  readonly receives?: ReceiveRequest;
  readonly acknowledges?: string;
  readonly alone: () => Promise<void>;
  readonly resolve: (result: Received | number | null) => void;
  readonly reject: (error: unknown) => void;
}

interface Line {
  readonly waiting: Waiting[];
  isStuck: boolean;
}

/**
 * Receives and acknowledgements of leases, as `receive` and `acknowledgeLease`, but what comes for a subscription while another is under way waits for it, and goes in one
 * transaction with all that has come meanwhile: they would wait for the same lock, and each would hold it until its own commit is on disk. Nothing waits when nothing is under
 * way. All of a transaction fail if it fails.
 */
export class Together {
  readonly #lines = new Map<string, Line>();

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
  ) {}

  receive(request: ReceiveRequest): Promise<Received | null> {
    const alone = (): Promise<Received | null> => receive(this.database, request);
    return this.#join(request.org, request.subscription, alone, { receives: request });
  }

  acknowledgeLease(org: string, subscription: number, lease: string): Promise<number | null> {
    const alone = (): Promise<number | null> => acknowledgeLease(this.database, org, subscription, lease);
    return this.#join(org, subscription, alone, { acknowledges: lease });
  }

  #join<Result extends Received | number>(
    org: string,
    subscription: number,
    alone: () => Promise<Result | null>,
    what: Pick<Waiting, 'receives' | 'acknowledges'>,
  ): Promise<Result | null> {
    const name = `${org} ${subscription}`;
    const line = this.#lines.get(name);
    if (line !== undefined && (line.isStuck || line.waiting.length >= waitingMax)) return alone();
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        ...what,
        alone: () => alone().then(resolve, reject),
        resolve: resolve as Waiting['resolve'],
        reject,
      };
      if (line !== undefined) line.waiting.push(waiting);
      else void this.#serve(name, org, subscription, waiting);
    });
  }

  async #serve(name: string, org: string, subscription: number, first: Waiting): Promise<void> {
    const line: Line = { waiting: [first], isStuck: false };
    this.#lines.set(name, line);
    while (line.waiting.length > 0) {
      const turn = nextTurn(line.waiting);
      const cancel = this.clock.after(turnMsMax, () => {
        line.isStuck = true;
        for (const waiting of line.waiting.splice(0)) void waiting.alone();
      });
      await this.#take(org, subscription, turn);
      cancel();
      line.isStuck = false;
    }
    this.#lines.delete(name);
  }

  /** Never rejects. */
  async #take(org: string, subscription: number, turn: readonly Waiting[]): Promise<void> {
    const receiving = turn.filter(({ receives }) => receives !== undefined);
    const acknowledging = turn.filter(({ acknowledges }) => acknowledges !== undefined);
    if (turn.length === 1) return turn[0]?.alone();
    try {
      const requests = receiving.flatMap(({ receives }) => receives ?? []);
      const leases = acknowledging.flatMap(({ acknowledges }) => acknowledges ?? []);
      const { received, settled } = await inOneTransaction(this.database, org, subscription, requests, leases);
      for (const { acknowledges = '', resolve } of acknowledging) {
        resolve(settled && (settled.get(acknowledges) ?? 0));
        // Of a lease that is acknowledged twice, the first acknowledges.
        settled?.delete(acknowledges);
      }
      const rest = receiving.filter(({ resolve }, i) => {
        const its = received?.[i];
        if (its !== undefined || received === null) resolve(its ?? null);
        return its === undefined && received !== null;
      });
      await Promise.all(rest.map((waiting) => waiting.alone()));
    } catch (error) {
      for (const { reject } of turn) reject(error);
    }
  }
}

/** As many as go together, at least one, taken from those that wait. */
function nextTurn(waiting: Waiting[]): Waiting[] {
  let events = 0;
  const end = waiting.findIndex(({ receives }, i) => {
    events += receives?.eventsMax ?? 0;
    return i === requestsMax || (i > 0 && events > eventsMax);
  });
  return waiting.splice(0, end === -1 ? waiting.length : end);
}

interface Outcome {
  /** Of each receive; undefined: it is still to be done. Null if there is no such subscription. */
  readonly received: readonly (Received | undefined)[] | null;
  /** The number of events of each lease that there was. Null if there is no such subscription. */
  readonly settled: Map<string, number> | null;
}

/** Receives as long as nothing is due again, which only one request at a time is handed. All receives are of this org and subscription. */
async function inOneTransaction(
  database: Database,
  org: string,
  subscription: number,
  requests: readonly ReceiveRequest[],
  leases: readonly string[],
): Promise<Outcome> {
  const writes: Writes = [];
  const sent = await database.transaction({ role: 'app', org }, async (tx) => {
    const received = await receiveAll();
    const settled = leases.length === 0 ? Promise.resolve(null) : settleLeases(tx, org, subscription, leases);
    // If it fails, so does the transaction.
    settled.catch(() => {});
    return { received, settled };

    async function receiveAll(): Promise<Outcome['received']> {
      const [first, ...others] = requests;
      if (first === undefined) return [];
      const nowMs = Math.max(...requests.map((request) => request.nowMs));
      const now = new Date(nowMs);
      const outlook = await lockIfAnything(tx, org, subscription, now);
      if (outlook === null) return null;
      const { state, behind, due, head } = outlook;
      const isDue = due !== null && due.getTime() <= nowMs;
      if (state === null) return behind || isDue ? null : requests.map(() => nothing(due));
      if (isDue) return [];
      const all = {
        org,
        eventsMax: requests.reduce((sum, request) => sum + request.eventsMax, 0),
        wantsPayload: requests.some((request) => request.wantsPayload),
      };
      const [dueNow, ahead] = await Promise.all([
        dueLeases(tx, org, subscription, now, 1),
        readAhead(tx, all, state, head, noChange),
      ]);
      if (dueNow.length > 0) return [];
      const { shares } = await advance(tx, [first, ...others], state, noChange, ahead, writes);
      return requests.map((_, i) => {
        const events = shares[i] ?? [];
        return events.length === 0 ? undefined : { events, attempt: 1, moreDue: false, nextDueAtMs: null };
      });
    }
  });
  await verifyWrites(writes);
  return { received: sent.received, settled: await sent.settled };
}

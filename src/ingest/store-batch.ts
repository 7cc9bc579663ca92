import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { StorageError } from '../db/database.js';
import { weaker } from '../db/sql/durability.js';
import type { StoredShare, TransactionOutcome } from '../db/sql/ingest.js';
import { transactionOutcome } from '../db/sql/ingest.js';
import { Problem } from '../errors.js';
import type { BatchOutcome } from '../event-log/append.js';
import { appendBatch, BatchOutcomeUnknown, BatchRolledBack, type AppendMode } from '../event-log/append.js';
import type { BlockedHeads } from '../event-log/blocked-heads.js';
import type { NewEvent } from '../event-log/new-event.js';
import type { StoredOrRefused } from './group-commit.js';

export interface StoreBatchOptions {
  readonly database: Database;
  readonly clock: Clock;
  /** Told of every batch that begins; what it returns is called at the end. */
  readonly blockedHeads: Pick<BlockedHeads, 'watch'>;
  /** How long to ask what became of a COMMIT without an answer. */
  readonly outcomeWaitMsMax: number;
  /** Told of every batch that is stored, before its requests are answered. */
  readonly onStored: (batch: readonly NewEvent[], outcome: BatchOutcome, durationMs: number) => void;
  /** Told of every attempt to store a batch that failed. */
  readonly onFailure: (error: unknown) => void;
}

/** How often a batch that was rolled back for a passing reason is tried again. */
const retriesMax = 3;
/** Deadlock, serialization failure: nothing is stored, and the next try may succeed. */
const passingSqlstates = new Set(['40P01', '40001']);

/**
 * Stores a batch, and does what can be done when it fails: a passing failure is tried again; a data error is narrowed down to the one event
 * that is to blame, which alone is refused; an unknown outcome is looked up. Never rejects: each event is stored or refused.
 */
export async function storeBatch(
  options: StoreBatchOptions,
  batch: readonly NewEvent[],
  lane = 0,
): Promise<readonly StoredOrRefused[]> {
  let outcome: BatchOutcome;
  try {
    outcome = await append(options, batch, 'each', lane);
  } catch (error) {
    if (isDataError(error)) return splitBatch(options, batch, lane, error);
    const refused = refusal(error);
    return batch.map(() => ({ refused }));
  }
  const { durability } = outcome;
  return outcome.events.map((appended) => ({ appended, durability }));
}

/** As `appendBatch`, again after a passing failure, and with an unknown outcome looked up. Rejects with what remains. */
export async function append(
  options: StoreBatchOptions,
  batch: readonly NewEvent[],
  mode: AppendMode,
  lane: number,
): Promise<BatchOutcome> {
  const startedAtMs = options.clock.monotonic();
  for (let attempt = 0; ; attempt++) {
    let outcome: BatchOutcome;
    try {
      outcome = await appendOnce(options, batch, mode, lane);
    } catch (error) {
      // A client's fault, not a failure.
      if (error instanceof BatchRolledBack) throw error;
      options.onFailure(error);
      if (attempt < retriesMax && isPassing(error)) continue;
      throw error;
    }
    options.onStored(batch, outcome, options.clock.monotonic() - startedAtMs);
    return outcome;
  }
}

async function appendOnce(
  options: StoreBatchOptions,
  batch: readonly NewEvent[],
  mode: AppendMode,
  lane: number,
): Promise<BatchOutcome> {
  const unwatch = options.blockedHeads.watch();
  try {
    return await appendBatch(options.database, batch, options.clock.now(), mode, lane);
  } catch (error) {
    if (!(error instanceof BatchOutcomeUnknown)) throw error;
    const shares = storedShares(batch, error.outcome);
    // Only duplicates and refusals: they hold whatever became of it.
    if (shares.length === 0) return { ...error.outcome, durability: weaker(error.outcome.durability, 'fsync') };
    const found = await settleOutcome(options, error.xid, shares);
    if (found?.kind === 'committed') {
      return { ...error.outcome, durability: weaker(error.outcome.durability, found.durability) };
    }
    if (found?.kind === 'aborted') throw new StorageError('unavailable', 'the batch was rolled back', { cause: error });
    throw error;
  } finally {
    unwatch();
  }
}

/** What is stored if, and only if, the batch is: per org, its events in the order of their positions. */
function storedShares(batch: readonly NewEvent[], { events }: BatchOutcome): StoredShare[] {
  const shares = new Map<string, StoredShare>();
  for (const [i, appended] of events.entries()) {
    const event = batch[i];
    if (appended.kind !== 'stored' || event === undefined) continue;
    const { org, type, payload } = event;
    const { position, ...place } = appended.place;
    const share = shares.get(org);
    if (share === undefined) {
      const first = { firstPosition: position, firstType: type, firstPayload: payload };
      shares.set(org, { org, ...place, ...first, lastPosition: position, events: 1 });
    } else {
      shares.set(org, { ...share, lastPosition: position, events: share.events + 1 });
    }
  }
  return [...shares.values()];
}

const outcomeRetryMs = 50;

/** Asks until the server tells, or the time is up, also when the server says nothing at all. */
async function settleOutcome(
  options: StoreBatchOptions,
  xid: string,
  shares: readonly StoredShare[],
): Promise<TransactionOutcome | null> {
  const { clock, database, outcomeWaitMsMax } = options;
  if (outcomeWaitMsMax === 0) return null;
  const over = new AbortController();
  const timeUp = new Promise<null>((resolve) => {
    over.signal.addEventListener('abort', () => resolve(null), { once: true });
  });
  const cancel = clock.after(outcomeWaitMsMax, () => over.abort());
  const ask = async (): Promise<TransactionOutcome | null> => {
    while (!over.signal.aborted) {
      try {
        const outcome = await transactionOutcome(database, xid, shares);
        if (outcome !== null) return outcome;
      } catch (error) {
        options.onFailure(error);
      }
      await new Promise<void>((resume) => {
        clock.after(outcomeRetryMs, resume);
      });
    }
    return null;
  };
  try {
    return await Promise.race([ask(), timeUp]);
  } finally {
    over.abort();
    cancel();
  }
}

/**
 * SQLSTATE class 22 (data exception) and 54001 (too complex): one event is to blame, not the server. Not class 23: no constraint
 * depends on what an event says, so a violated one is the server's fault, and the client must not be told otherwise.
 */
export function isDataError(error: unknown): error is StorageError {
  if (!(error instanceof StorageError) || error.kind !== 'sql' || error.sqlstate === undefined) return false;
  return error.sqlstate.startsWith('22') || error.sqlstate === '54001';
}

function isPassing(error: unknown): boolean {
  return error instanceof StorageError && error.kind === 'sql' && passingSqlstates.has(error.sqlstate ?? '');
}

/** Halves, in order, so that per org the log keeps the order of the requests; each event is tried alone at the most. */
async function splitBatch(
  options: StoreBatchOptions,
  batch: readonly NewEvent[],
  lane: number,
  error: StorageError,
): Promise<readonly StoredOrRefused[]> {
  if (batch.length === 1) return [{ refused: unstorableEvent(error) }];
  const middle = batch.length >> 1;
  const first = await storeBatch(options, batch.slice(0, middle), lane);
  const second = await storeBatch(options, batch.slice(middle), lane);
  return [...first, ...second];
}

export function unstorableEvent(cause: StorageError): Problem {
  const detail = 'The storage cannot hold this event. Check its strings for characters that are not text.';
  return new Problem('validation_failed', detail, { cause });
}

/** What a client is told of a failure that no event is to blame for. */
export function refusal(error: unknown): Problem {
  if (error instanceof BatchOutcomeUnknown || (error instanceof StorageError && error.kind === 'outcome_unknown')) {
    const detail =
      'The storage did not say whether it has the event. Send it again with a dedup_id, or risk a second event.';
    return new Problem('outcome_unknown', detail, { retryAfterSeconds: 1, cause: error });
  }
  if (error instanceof StorageError) {
    const detail =
      'The storage did not take the event in time, or could not be reached. Nothing was stored; send it again.';
    return new Problem('storage_unavailable', detail, { retryAfterSeconds: 1, cause: error });
  }
  return new Problem('internal', 'The event could not be stored.', { cause: error });
}

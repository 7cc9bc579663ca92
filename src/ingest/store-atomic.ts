import { StorageError } from '../db/database.js';
import { BatchRolledBack } from '../event-log/append.js';
import type { NewEvent } from '../event-log/new-event.js';
import type { StoredOrRefused } from './group-commit.js';
import { dedupMismatch, notStored, orgGone } from './refusals.js';
import type { StoreBatchOptions } from './store-batch.js';
import { append, isDataError, refusal, unstorableEvent } from './store-batch.js';

/**
 * Stores all of a batch, in one transaction, or nothing of it. The outcomes, in the order of the batch, are then those of `storeBatch`, or they are
 * all refusals: of each event that is to blame its own (of several that the database cannot hold, the first), `not_stored` of the others.
 * Rejects with a `Problem` if the storage failed: nothing is stored, or, with `outcome_unknown`, all or nothing. `lane`: as of `appendBatch`.
 */
export async function storeAtomic(
  options: StoreBatchOptions,
  batch: readonly NewEvent[],
  lane = 0,
): Promise<readonly StoredOrRefused[]> {
  try {
    const { events, durability } = await append(options, batch, 'all', lane);
    return events.map((appended) => ({ appended, durability }));
  } catch (error) {
    if (error instanceof BatchRolledBack) {
      if (error.events.some(({ kind }) => kind === 'org_unknown')) throw orgGone();
      return error.events.map(({ kind }) => ({ refused: kind === 'dedup_mismatch' ? dedupMismatch() : notStored() }));
    }
    if (!isDataError(error)) throw refusal(error);
    const bad = await findBad(options, batch, lane);
    return batch.map((_, i) => ({ refused: i === bad ? unstorableEvent(error) : notStored() }));
  }
}

/** The index of the first event that the database cannot hold, in at most 1 + log2(events) rehearsals. */
async function findBad(options: StoreBatchOptions, batch: readonly NewEvent[], lane: number): Promise<number> {
  let from = 0;
  let to = batch.length;
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if (await isHeld(options, batch.slice(from, middle), lane)) from = middle;
    else to = middle;
  }
  // The failure may have been of the whole, or have passed: then nobody is blamed.
  if (!(await isHeld(options, batch.slice(from, to), lane))) return from;
  throw refusal(new StorageError('unavailable', 'the database refused a batch each of whose events it takes'));
}

/** Whether the database can hold these events. */
async function isHeld(options: StoreBatchOptions, batch: readonly NewEvent[], lane: number): Promise<boolean> {
  try {
    await append(options, batch, 'rehearse', lane);
  } catch (error) {
    if (isDataError(error)) return false;
    if (!(error instanceof BatchRolledBack)) throw refusal(error);
  }
  return true;
}

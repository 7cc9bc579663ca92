/** Why an event is not stored, in words for its sender. */
import { StorageError } from '../db/database.js';
import { Problem } from '../errors.js';

export function overloaded(what: string, retryAfterSeconds: number): Problem {
  const detail = `Not stored: ${what}. Send it again after the time in Retry-After.`;
  return new Problem('overloaded', detail, { retryAfterSeconds });
}

export function shuttingDown(): Problem {
  return new Problem('storage_unavailable', 'This node is shutting down. Send the event again.', {
    retryAfterSeconds: 1,
    cause: new StorageError('unavailable', 'shutting down'),
  });
}

export function dedupMismatch(): Problem {
  const detail =
    'An event of another type or payload was stored under this dedup_id. Use a new dedup_id for a new event.';
  return new Problem('dedup_mismatch', detail);
}

/** The org was deleted after its key was checked. */
export function orgGone(): Problem {
  return new Problem('invalid_key', 'The organisation of this key is gone.');
}

/** Of a good event in a refused atomic batch. */
export function notStored(): Problem {
  return new Problem('not_stored', 'Another event of this atomic batch was refused, so none was stored.');
}

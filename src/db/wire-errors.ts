import { DatabaseError } from 'pg';
import { StorageError } from './database.js';
import type { StorageErrorKind } from './database.js';

/** Whether the server ends the session with this error, or the session has become useless. By SQLSTATE, since the severity is in the server's language. */
export function breaksSession(error: unknown): error is Error {
  if (!(error instanceof DatabaseError)) return false;
  if (error.severity === 'FATAL' || error.severity === 'PANIC') return true;
  // 08: connection exception; 57P: shutdown, crash, dropped database, idle session; 25P03: idle in transaction too long; 25006: the server takes no
  // writes (any more), and there may be another one that does.
  return /^(08|57P|25P03|25006)/.test(error.code ?? '');
}

/** The other side has made no progress for too long. */
export class SilentSession extends Error {
  constructor(silentMs: number) {
    super(`no progress in the session for ${silentMs} ms`);
  }
}

/** Whether other sessions with the same server are likely to fail as this one did, and to take as long to be found out. */
export function doubtsOthers(failure: Error | undefined): boolean {
  return failure instanceof SilentSession || (failure instanceof DatabaseError && failure.code === '25006');
}

/**
 * Whether client and server disagree about what is prepared: unknown (26000) or already there (42P05), as when a pooler in between
 * changed the server session, or planned for a table that has changed since (0A000).
 */
export function forgetsStatements(error: unknown): boolean {
  if (!(error instanceof DatabaseError)) return false;
  if (error.code === '26000' || error.code === '42P05') return true;
  return error.code === '0A000' && error.routine === 'RevalidateCachedQuery';
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** For a message. A host name with several addresses fails with an `AggregateError`, which says nothing itself. */
export function reasonOf(error: unknown): string {
  return error instanceof AggregateError ? error.errors.map(reasonOf).join('; ') : asError(error).message;
}

export function toStorageError(error: unknown, kind: StorageErrorKind): StorageError {
  if (error instanceof StorageError && error.kind === kind) return error;
  const message = error instanceof Error ? error.message : String(error);
  const { code, where } = error instanceof DatabaseError ? error : {};
  return new StorageError(kind, message, { sqlstate: code, where, cause: error });
}

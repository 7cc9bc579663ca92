import { errorTable, Problem } from '../errors.js';
import { StorageError } from '../db/database.js';
import type { Reply } from './route.js';

/** Relative to the server that answers (RFC 9457 allows it), which serves the page. */
export const errorDocsPath = '/docs/errors';

/** The reply for a refusal: RFC 9457 `application/problem+json`. */
export function renderProblem(problem: Problem, requestId: string): Reply {
  const { status, title } = errorTable[problem.code];
  const body = {
    type: `${errorDocsPath}#${problem.code}`,
    title,
    status,
    detail: problem.detail,
    code: problem.code,
    ...(problem.errors === undefined ? {} : { errors: problem.errors }),
    ...(problem.retryAfterSeconds === undefined ? {} : { retry_after: problem.retryAfterSeconds }),
    request_id: requestId,
    ...problem.members,
  };
  const headers: Record<string, string> = { 'Cache-Control': 'no-store', ...problem.headers };
  // RFC 9110, 15.5.2: a 401 names its challenge, wherever it comes from.
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer';
  if (problem.retryAfterSeconds !== undefined) headers['Retry-After'] = String(problem.retryAfterSeconds);
  return { status, headers, body: JSON.stringify(body), mediaType: 'application/problem+json' };
}

/** What a client may know of a failure. Anything that is no refusal of ours is `internal`, and says nothing of its cause. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof StorageError) return storageProblem(error);
  return new Problem(
    'internal',
    'Something went wrong here. The log of the server names the cause by this request_id.',
    {
      cause: error,
    },
  );
}

/** Waits that ended (lock, statement, deadlock), a partition not yet made, a server that is starting, stopping or full: it may succeed later. */
const passingSqlstates = /^(08|25006|40|42P01|53|55P03|57|58)/;

function storageProblem(error: StorageError): Problem {
  if (error.kind === 'outcome_unknown') {
    const detail =
      'The storage was lost while the change was being committed. Look whether it took place, then try again.';
    return new Problem('outcome_unknown', detail, { retryAfterSeconds: 1, cause: error });
  }
  if (error.kind === 'overloaded') {
    const detail =
      'Too much of this organisation waits for the storage. Nothing was done; try again after the time in Retry-After.';
    return new Problem('overloaded', detail, { retryAfterSeconds: error.retryAfterSeconds ?? 1, cause: error });
  }
  if (error.kind === 'unavailable' || passingSqlstates.test(error.sqlstate ?? '')) {
    const detail = 'The storage could not be reached. Nothing was changed; try again.';
    return new Problem('storage_unavailable', detail, { retryAfterSeconds: 1, cause: error });
  }
  return new Problem(
    'internal',
    'Something went wrong here. The log of the server names the cause by this request_id.',
    {
      cause: error,
    },
  );
}

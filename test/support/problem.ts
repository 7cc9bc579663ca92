import assert from 'node:assert/strict';
import { errorTable } from '../../src/errors.js';
import type { ErrorCode, FieldError } from '../../src/errors.js';

export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly errors?: readonly FieldError[];
  readonly retry_after?: number;
  readonly request_id: string;
}

const members = ['type', 'title', 'status', 'detail', 'code', 'errors', 'retry_after', 'request_id'];

/** Asserts that a reply is a refusal as the contract says, in its body and in its headers, and returns the body. */
export function assertProblem(
  { status, headers, text }: { readonly status: number; readonly headers: Headers; readonly text: string },
  code?: ErrorCode,
  furtherMembers: readonly string[] = [],
): ProblemBody {
  const shown = `${status} ${text.slice(0, 500)}`;
  assert.equal(headers.get('content-type'), 'application/problem+json', shown);
  const body = JSON.parse(text) as ProblemBody;
  if (code !== undefined) assert.equal(body.code, code, shown);
  const row = errorTable[body.code] as { status: number; title: string } | undefined;
  assert.ok(row, `${shown}: not a code of the table`);
  assert.equal(status, row.status, shown);
  assert.equal(body.status, status);
  assert.equal(body.title, row.title);
  assert.equal(body.type, `/docs/errors#${body.code}`);
  assert.ok(body.detail.length > 0 && body.detail.length < 2_000, shown);
  assert.deepEqual(
    Object.keys(body),
    [...members, ...furtherMembers].filter((member) => member in body),
    shown,
  );
  assert.equal(headers.get('x-request-id'), body.request_id);
  assert.match(body.request_id, /^[A-Za-z0-9._-]{1,128}$/);
  assert.equal(headers.get('retry-after'), body.retry_after === undefined ? null : String(body.retry_after));
  if (status === 429 || status === 503) assert.ok(Number.isInteger(body.retry_after) && body.retry_after! >= 1, shown);
  if (status === 401) assert.equal(headers.get('www-authenticate'), 'Bearer');
  if (status === 405) assert.match(headers.get('allow') ?? '', /^[A-Z]+(, [A-Z]+)*$/);
  for (const { path, message } of body.errors ?? []) {
    assert.match(path, /^(\/|\?|\{|$|Idempotency-Key$|ce-[a-z])/);
    assert.ok(message.length > 0);
  }
  return body;
}

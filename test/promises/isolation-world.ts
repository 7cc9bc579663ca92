import assert from 'node:assert/strict';
import type { BucketClass } from '../../src/admission/rate-limit.js';
import type { Answer } from '../support/client.js';
import { Ownership } from './isolation-tenant.js';
import type { Tenant, TenantAtNode } from './isolation-tenant.js';

export interface Sent {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** Several tenants on the same nodes. Every reply to one of them is searched for what is another's. */
export class World {
  readonly #ownership: Ownership;
  requests = 0;
  /** Questions about what is another's. */
  intrusions = 0;

  constructor(readonly tenants: readonly Tenant[]) {
    this.#ownership = new Ownership(tenants);
  }

  others(tenant: Tenant): Tenant[] {
    return this.tenants.filter((other) => other !== tenant);
  }

  /** Sends a request of a tenant that costs tokens of `bucket`. Asserts that the reply shows nothing of the others. */
  async send(
    tenant: Tenant,
    bucket: BucketClass | null,
    { method, path, body, headers }: Sent,
    tokens = 1,
  ): Promise<Answer> {
    this.requests++;
    const { client, spent } = tenant.nextNode();
    if (bucket !== null) spent[bucket] += tokens;
    const answer = await client.call(method, path, body, headers);
    this.#ownership.check(tenant, `${decodeURIComponent(path)} ${JSON.stringify([body, headers])}`, answer);
    if (bucket !== null) assertOwnBucket(tenant, spent, bucket, answer);
    return answer;
  }

  /** Asserts that what is another's is answered, to the letter, as what does not exist. Returns the answer. */
  async sendTwins(
    tenant: Tenant,
    bucket: BucketClass | null,
    foreign: string,
    missing: string,
    request: (id: string) => Sent,
  ): Promise<Answer> {
    this.intrusions++;
    const answer = await this.send(tenant, bucket, request(foreign));
    const twin = await this.send(tenant, bucket, request(missing));
    assert.deepEqual(withoutId(answer, foreign), withoutId(twin, missing));
    return answer;
  }

  /** For a control: the check alone, on an answer that was got in another way. */
  check(reader: Tenant, answer: Answer): void {
    this.#ownership.check(reader, '', answer);
  }
}

/** What may differ between two refusals of the same thing: the id that was asked for, the request's own id, the time. */
function withoutId({ status, text, headers }: Answer, id: string) {
  const requestId = headers.get('x-request-id') ?? '';
  const kept = Array.from(headers).filter(([name]) => name !== 'date' && name !== 'x-request-id');
  return {
    status,
    text: text.replaceAll(id, 'ID').replaceAll(requestId, 'REQUEST'),
    headers: kept.filter(([name]) => !name.startsWith('ratelimit-')),
  };
}

/** The bucket that a reply tells of is as large as this tenant's, and holds what this tenant alone has left in it. */
function assertOwnBucket(
  tenant: Tenant,
  spent: TenantAtNode['spent'],
  bucket: BucketClass,
  { headers, status, text }: Answer,
): void {
  assert.notEqual(status, 429, text);
  const limit = headers.get('ratelimit-limit');
  if (limit === null) return assert.ok(status >= 400, `${status} without RateLimit headers: ${text}`);
  const factor = bucket === 'write' ? 1 : 10;
  assert.equal(Number(limit), tenant.burst * factor);
  const left = Number(headers.get('ratelimit-remaining')) - (tenant.burst * factor - spent[bucket]);
  const refilledMax = ((performance.now() - tenant.startedAtMs) / 60_000) * factor;
  assert.ok(left >= 0 && left <= refilledMax, `${left} tokens more than this org has left, of ${refilledMax} refilled`);
}

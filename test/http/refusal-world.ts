import assert from 'node:assert/strict';
import type { ErrorCode } from '../../src/errors.js';
import type { Answer, TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { adminToken } from '../support/node.js';
import type { ProblemBody } from '../support/problem.js';

/** Who asks, and what there is to ask for. */
export interface World {
  readonly address: string;
  readonly nobody: Client;
  readonly stranger: Client;
  readonly admin: Client;
  /** All scopes. */
  readonly own: TestOrg;
  /** Only the scope webhooks:manage. */
  readonly powerless: Client;
  readonly suspended: Client;
  /** Has no token left in any bucket. */
  readonly drained: Client;
  /** An event and a lease of another org. */
  readonly foreignEvent: string;
  readonly foreignLease: string;
}

/** A request that is refused. */
export interface Case {
  readonly what: string;
  readonly code: ErrorCode;
  readonly ask: (world: World) => Promise<Answer>;
  readonly check?: (problem: ProblemBody, answer: Answer) => void;
}

/** Orgs, keys and credentials of every kind on a fresh node. */
export async function createWorld(address: string): Promise<World> {
  const admin = new Client(address, adminToken);
  const [own, other, suspended, drained] = await Promise.all([
    createOrg(address),
    createOrg(address),
    createOrg(address),
    createOrg(address),
  ]);
  const weak = await own.client.post('/v1/keys', { name: 'weak', scopes: ['webhooks:manage'] });
  await admin.call('PATCH', `/v1/orgs/${suspended.id}`, { suspended: true });
  await admin.call('PATCH', `/v1/orgs/${drained.id}`, { limits: { rate_per_minute: 1, burst: 1 } });
  await drained.client.post('/v1/events', event);
  const foreignEvent = await other.client.post('/v1/events', event);
  const foreignLease = await other.client.post('/v1/inbox/receive', { lease_seconds: 600 });
  return {
    address,
    nobody: new Client(address, null),
    stranger: new Client(address, `slk_live_${'x'.repeat(43)}`),
    admin,
    own,
    powerless: new Client(address, weak.json.key),
    suspended: suspended.client,
    drained: drained.client,
    foreignEvent: foreignEvent.json.id,
    foreignLease: foreignLease.json.lease_id,
  };
}

export const event = { type: 'order.created', payload: { n: 1 } };
export const tooLarge = `{"type":"a","payload":"${'x'.repeat(400_000)}"}`;
export const unknownId = 'evt_00000000000000000000000000C0';
/** Of the node under test: an event for which the queue has no room is still small. */
export const queueBytesMax = 128 * 1024;

/** Asserts that just these fields are named as wrong. */
export function pathIs(...paths: string[]) {
  return ({ errors }: ProblemBody) => assert.deepEqual(errors?.map(({ path }) => path).toSorted(), paths);
}

export const plain = { 'Content-Type': 'text/plain' };
export const gzip = { 'Content-Encoding': 'gzip' };

import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { encodeEventId } from '../../src/event-log/event-id.js';
import { encodeOrgId, encodeRandomId } from '../../src/ids.js';
import { Client } from '../support/client.js';
import type { Answer, TestOrg } from '../support/client.js';
import { adminToken } from '../support/node.js';

export interface SentEvent {
  readonly id: string;
  readonly type: string;
  readonly payload: string;
}

/** Where an event of a tenant is: the states of its inbox. */
export type Place = 'pending' | 'leased' | 'delivered';

/** The tenant at one node, which has buckets of its own. */
export interface TenantAtNode {
  readonly client: Client;
  /** Tokens spent, by bucket. */
  readonly spent: Record<'write' | 'read' | 'consume', number>;
}

/** One org as it must look from inside: whatever another org does, its replies follow from this alone. */
export class Tenant {
  /** In everything that the org writes. */
  readonly canary = `canary-${randomBytes(8).toString('hex')}`;
  /** In log order. */
  readonly events: SentEvent[] = [];
  readonly places = new Map<string, Place>();
  readonly dedup = new Map<string, SentEvent>();
  /** Living leases and what they hold; those that were acknowledged are empty. */
  readonly leases = new Map<string, readonly string[]>();
  /** Living keys by id. */
  readonly keys = new Map<string, { readonly name: string }>();
  /** Named ones. */
  readonly inboxes = new Set<string>();
  /** Ids of erasures that were asked for. */
  readonly erasures: string[] = [];
  readonly cursors: { readonly path: string; readonly cursor: string }[] = [];
  readonly startedAtMs = performance.now();
  readonly #nodes: readonly TenantAtNode[];
  #turns = 0;

  private constructor(
    readonly org: TestOrg,
    readonly burst: number,
    addresses: readonly string[],
  ) {
    this.#nodes = addresses.map((address) => ({
      client: new Client(address, org.key),
      spent: { write: 0, read: 0, consume: 0 },
    }));
  }

  /** An org with a limit that no other org has, and that refills too slowly to hide anybody else's use. Its requests go to the nodes in turn. */
  static async create(addresses: readonly string[]): Promise<Tenant> {
    const [address = ''] = addresses;
    const admin = new Client(address, adminToken);
    const burst = randomInt(1_000_000, 2_000_000);
    const { json } = await admin.post('/v1/orgs', { name: 'to be named', tier: 'enterprise' });
    const org = { id: json.id, key: json.key, keyId: json.key_id, client: new Client(address, json.key) };
    const tenant = new Tenant(org, burst, addresses);
    const change = { name: `org ${tenant.canary}`, limits: { rate_per_minute: 1, burst } };
    assert.equal((await admin.call('PATCH', `/v1/orgs/${org.id}`, change)).status, 200);
    tenant.keys.set(org.keyId, { name: 'first key' });
    return tenant;
  }

  /** Where its next request goes. */
  nextNode(): TenantAtNode {
    const node = this.#nodes[this.#turns++ % this.#nodes.length];
    assert.ok(node !== undefined);
    return node;
  }

  in(place: Place): string[] {
    return this.events.map(({ id }) => id).filter((id) => this.places.get(id) === place);
  }
}

/** What the first row of every audit log follows. */
const beforeFirstRow = '0'.repeat(64);
const tokenPattern =
  /canary-[0-9a-f]{16}|(?:evt|ers|key|lse|org)_[0-9A-HJKMNP-TV-Z]{10,28}|slk_live_[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{30,}/g;

/** Whose is what: every id, key, cursor and canary, from the reply that showed it first. */
export class Ownership {
  readonly #owners = new Map<string, Tenant>();

  constructor(tenants: readonly Tenant[]) {
    for (const tenant of tenants) {
      const { id, key, keyId } = tenant.org;
      for (const token of [tenant.canary, id, key, keyId]) this.#owners.set(token, tenant);
    }
  }

  /**
   * Throws if a reply to `reader` shows what is another's. What the reader itself sent does not count: it knew it before. Everything else in it is
   * the reader's from now on.
   */
  check(reader: Tenant, sent: string, { text, headers }: Pick<Answer, 'text' | 'headers'>): void {
    const shown = [text, ...Array.from(headers, ([name, value]) => `${name}: ${value}`)].join('\n');
    for (const [token] of shown.matchAll(tokenPattern)) {
      if (sent.includes(token) || token === headers.get('x-request-id') || token === beforeFirstRow) continue;
      const owner = this.#owners.get(token);
      assert.ok(owner === undefined || owner === reader, `a reply shows ${token}, which is another org's: ${shown}`);
      this.#owners.set(token, reader);
    }
  }
}

const today = (): number => Math.floor(Date.now() / 86_400_000);
const nobody = (): string => String(randomInt(1, 2 ** 48 - 1));

/** Ids of nothing, of every kind, each as long as those of something. */
export const absent = {
  event: (): string => encodeEventId({ org: nobody(), epoch: 1, position: randomInt(2 ** 30, 2 ** 40), day: today() }),
  key: (): string => encodeRandomId('key', randomBytes(16)),
  lease: (): string => encodeRandomId('lse', randomBytes(16)),
  erasure: (): string => encodeRandomId('ers', randomBytes(16)),
  org: (): string => encodeOrgId(nobody()),
  /** As many bytes as the cursor it stands for. */
  cursor: (like: string): string => randomBytes(Buffer.from(like, 'base64url').length).toString('base64url'),
};

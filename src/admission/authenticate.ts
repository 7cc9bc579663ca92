import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { findKeyByHash } from '../db/sql/keys.js';
import { Problem } from '../errors.js';
import { hashKey, isKeyShaped } from '../tenancy/key-secret.js';
import type { KeyScope } from '../tenancy/scopes.js';
import { isKeyScope } from '../tenancy/scopes.js';
import type { Limits } from '../tenancy/tiers.js';
import { limitsOf } from '../tenancy/tiers.js';

/** Who sends a request. */
export interface Identity {
  readonly kind: 'key';
  readonly org: string;
  readonly keyId: string;
  readonly scopes: ReadonlySet<KeyScope>;
  readonly limits: Limits;
  readonly suspended: boolean;
  readonly expiresAtMs: number | null;
}
export type Caller = Identity | { readonly kind: 'admin' };

/**
 * How long a looked-up key is believed, counted from before the look-up began: so a key that is revoked, rotated, suspended or limited
 * anywhere has its new state on every node well within a second, without any message between nodes that might get lost.
 */
const believedMsMax = 500;
/** Keys remembered, unknown ones included. */
const rememberedKeysMax = 50_000;
/** Look-ups under way, of all keys; beyond it a flood of unknown keys is refused without one. */
const lookupsMax = 256;

interface Remembered {
  readonly identity: Identity | null;
  readonly askedAtMs: number;
}

interface Lookup {
  readonly askedAtMs: number;
  readonly identity: Promise<Identity | null>;
}

export class Authenticator {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #adminTokenHash: Buffer;
  readonly #remembered = new Map<string, Remembered>();
  /** What a request may wait for together with others. */
  readonly #lookups = new Map<string, Lookup>();
  #lookupsUnderWay = 0;
  /** Raised when this node changes a key or an org: a look-up that began before is not remembered. */
  #generation = 0;

  constructor(database: Database, clock: Clock, adminToken: string) {
    this.#database = database;
    this.#clock = clock;
    this.#adminTokenHash = hashKey(adminToken);
  }

  /**
   * Who holds the credentials of these headers. Answers without a promise where it can, since every request asks. Throws or rejects with
   * `missing_key`, `invalid_key`, `org_suspended`, or the storage's failure.
   */
  authenticate(headers: IncomingHttpHeaders): Caller | Promise<Caller> {
    const credential = readCredential(headers);
    if (!isKeyShaped(credential)) {
      // Hashes are compared, so that neither length nor content of the token shows in the time it takes.
      if (timingSafeEqual(hashKey(credential), this.#adminTokenHash)) return { kind: 'admin' };
      throw unknownKey();
    }
    const name = hashKey(credential).toString('latin1');
    const known = this.#remembered.get(name);
    if (known !== undefined && this.#clock.monotonic() - known.askedAtMs < believedMsMax)
      return this.#check(known.identity);
    return this.#lookUp(name).then((identity) => this.#check(identity));
  }

  /** Forgets every key: this node changed one. */
  forget(): void {
    this.#generation++;
    this.#remembered.clear();
    this.#lookups.clear();
  }

  #check(identity: Identity | null): Identity {
    if (identity === null) throw unknownKey();
    if (identity.expiresAtMs !== null && identity.expiresAtMs <= this.#clock.now()) throw unknownKey();
    if (identity.suspended) {
      throw new Problem('org_suspended', 'This organisation is suspended. Ask whoever runs this server.');
    }
    return identity;
  }

  /**
   * One look-up per key at a time; whoever asks meanwhile gets its result or its failure. One that is older than `believedMsMax`, because the
   * storage is slow, may have missed a change: it is not waited for any more.
   */
  #lookUp(name: string): Promise<Identity | null> {
    const askedAtMs = this.#clock.monotonic();
    const underWay = this.#lookups.get(name);
    if (underWay !== undefined && askedAtMs - underWay.askedAtMs < believedMsMax) return underWay.identity;
    if (this.#lookupsUnderWay >= lookupsMax) {
      const detail = 'Too many keys are being looked up. Try again after the time in Retry-After.';
      return Promise.reject(new Problem('overloaded', detail, { retryAfterSeconds: 1 }));
    }
    const lookup = { askedAtMs, identity: this.#readAndRemember(name, askedAtMs) };
    this.#lookups.set(name, lookup);
    const release = (): void => {
      if (this.#lookups.get(name) === lookup) this.#lookups.delete(name);
    };
    lookup.identity.then(release, release);
    return lookup.identity;
  }

  async #readAndRemember(name: string, askedAtMs: number): Promise<Identity | null> {
    const generation = this.#generation;
    this.#lookupsUnderWay++;
    try {
      const identity = await this.#read(Buffer.from(name, 'latin1'));
      const known = this.#remembered.get(name);
      const isNewest = known === undefined || known.askedAtMs <= askedAtMs;
      if (generation === this.#generation && isNewest) this.#remember(name, { identity, askedAtMs });
      return identity;
    } finally {
      this.#lookupsUnderWay--;
    }
  }

  async #read(hash: Buffer): Promise<Identity | null> {
    const row = await findKeyByHash(this.#database, hash);
    if (row === null) return null;
    return {
      kind: 'key',
      org: row.org,
      keyId: row.key_id,
      scopes: new Set(row.scopes.filter(isKeyScope)),
      limits: limitsOf(row),
      suspended: row.suspended,
      expiresAtMs: row.ends_at?.getTime() ?? null,
    };
  }

  #remember(name: string, remembered: Remembered): void {
    this.#remembered.delete(name);
    if (this.#remembered.size >= rememberedKeysMax) {
      const oldest = this.#remembered.keys().next();
      if (oldest.done !== true) this.#remembered.delete(oldest.value);
    }
    this.#remembered.set(name, remembered);
  }
}

function readCredential(headers: IncomingHttpHeaders): string {
  const bearer = bearerToken(headers.authorization);
  const apiKey = headers['x-api-key'];
  const key = typeof apiKey === 'string' && apiKey !== '' ? apiKey : undefined;
  if (bearer !== undefined && key !== undefined && bearer !== key) {
    throw new Problem('invalid_key', 'Authorization and X-API-Key name different keys. Send one of them.');
  }
  const credential = bearer ?? key;
  if (credential === undefined) {
    throw new Problem('missing_key', 'Send your key as "Authorization: Bearer slk_live_…" or "X-API-Key: slk_live_…".');
  }
  return credential;
}

function bearerToken(header: string | undefined): string | undefined {
  if (header === undefined || header === '') return undefined;
  const match = /^Bearer +(\S+) *$/i.exec(header);
  if (match?.[1] === undefined) {
    throw new Problem('invalid_key', 'The Authorization header must be "Bearer" and a key.');
  }
  return match[1];
}

function unknownKey(): Problem {
  return new Problem('invalid_key', 'This key is not known, has ended, or was revoked.');
}

import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import type { KeyHolderRow } from '../db/sql/keys.js';
import { Problem } from '../errors.js';
import { hashKey, isKeyShaped } from '../tenancy/key-secret.js';
import type { KeyScope } from '../tenancy/scopes.js';
import { isKeyScope } from '../tenancy/scopes.js';
import type { Limits } from '../tenancy/tiers.js';
import { limitsOf } from '../tenancy/tiers.js';
import { AccessVersion } from './access-version.js';
import { KeyLookups } from './key-lookups.js';

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
 * How long what was looked up is believed whatever happens, counted from before it was asked for. A known key is believed for longer, as long as a poll of
 * the access version that began less than this time ago says that nothing has changed. So a key that is revoked, rotated, suspended or limited
 * anywhere has its new state on every node well within a second, without any message between nodes that might get lost.
 *
 * Also where the version is another one: a tenant that changes its keys without end makes no more work than there is without versions.
 */
const believedMsMax = 500;
/** Then it is looked up again all the same, in case that somebody has changed a key past the triggers that raise the version. */
const believedUnchangedMsMax = 300_000;
const knownKeysMax = 50_000;
const unknownKeysMax = 10_000;

interface Known {
  readonly identity: Identity;
  readonly askedAtMs: number;
  /** The access version with which it was read. */
  readonly version: string;
}

interface Lookup {
  readonly askedAtMs: number;
  readonly identity: Promise<Identity | null>;
}

export class Authenticator {
  readonly #clock: Clock;
  readonly #adminTokenHash: Buffer;
  readonly #keyLookups: KeyLookups;
  readonly #version: AccessVersion;
  /**
   * Keys that are somebody's, by themselves: every request asks, and to take a key's digest costs more than all the rest. In the order in which they were
   * looked up.
   */
  readonly #known = new Map<string, Known>();
  /** When a digest was looked up in vain, in that order. */
  readonly #unknown = new Map<string, number>();
  /** What a request may wait for together with others, by digest. */
  readonly #lookups = new Map<string, Lookup>();
  /** Raised when this node changes a key or an org: a look-up that began before is not remembered. */
  #generation = 0;

  constructor(database: Database, clock: Clock, adminToken: string) {
    this.#clock = clock;
    this.#adminTokenHash = hashKey(adminToken);
    this.#keyLookups = new KeyLookups(database, clock);
    this.#version = new AccessVersion(database);
  }

  /**
   * Who holds the credentials of these headers. Answers without a promise where it can, since every request asks. Throws or rejects with
   * `missing_key`, `invalid_key`, `org_suspended`, or the storage's failure. The same object for a key as long as it is not looked up again.
   */
  authenticate(headers: IncomingHttpHeaders): Caller | Promise<Caller> {
    const nowMs = this.#clock.monotonic();
    const identity = this.#believed(soleCredential(headers), nowMs);
    return identity === undefined ? this.#identify(readCredential(headers), nowMs) : this.#check(identity);
  }

  /** Forgets the keys of an org: this node changed it, or one of them. */
  forget(org: string): void {
    this.#generation++;
    for (const [key, { identity }] of this.#known) if (identity.org === org) this.#known.delete(key);
    this.#lookups.clear();
  }

  #believed(key: string, nowMs: number): Identity | undefined {
    const known = this.#known.get(key);
    if (known === undefined) return undefined;
    const ageMs = nowMs - known.askedAtMs;
    const isUnchanged = ageMs < believedUnchangedMsMax && this.#version.wasCurrent(known.version, nowMs);
    if (ageMs >= believedMsMax && !isUnchanged) return undefined;
    this.#version.keepFresh(nowMs);
    return known.identity;
  }

  #identify(credential: string, nowMs: number): Caller | Promise<Caller> {
    if (!isKeyShaped(credential)) {
      // Hashes are compared, so that neither length nor content of the token shows in the time it takes.
      if (timingSafeEqual(hashKey(credential), this.#adminTokenHash)) return { kind: 'admin' };
      throw unknownKey();
    }
    // Written in another way than those that `soleCredential` reads.
    const identity = this.#believed(credential, nowMs);
    if (identity !== undefined) return this.#check(identity);
    const hash = hashKey(credential);
    const unknownSinceMs = this.#unknown.get(hash.toString('latin1'));
    if (unknownSinceMs !== undefined && nowMs - unknownSinceMs < believedMsMax) throw unknownKey();
    return this.#lookUp(credential, hash, nowMs).then((found) => this.#check(found));
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
  #lookUp(key: string, hash: Buffer, askedAtMs: number): Promise<Identity | null> {
    const name = hash.toString('latin1');
    const underWay = this.#lookups.get(name);
    if (underWay !== undefined && askedAtMs - underWay.askedAtMs < believedMsMax) return underWay.identity;
    const lookup = { askedAtMs, identity: this.#readAndRemember(key, hash, askedAtMs) };
    this.#lookups.set(name, lookup);
    const release = (): void => {
      if (this.#lookups.get(name) === lookup) this.#lookups.delete(name);
    };
    lookup.identity.then(release, release);
    return lookup.identity;
  }

  async #readAndRemember(key: string, hash: Buffer, askedAtMs: number): Promise<Identity | null> {
    const generation = this.#generation;
    const { row, readAtMs } = await this.#keyLookups.find(hash);
    if (row !== null) this.#version.saw(row.version, readAtMs);
    const identity = row === null ? null : identityOf(row);
    const name = hash.toString('latin1');
    const newestMs = Math.max(this.#known.get(key)?.askedAtMs ?? 0, this.#unknown.get(name) ?? 0);
    if (generation !== this.#generation || askedAtMs < newestMs) return identity;
    this.#known.delete(key);
    this.#unknown.delete(name);
    if (row === null || identity === null) {
      this.#unknown.set(name, askedAtMs);
      if (this.#unknown.size > unknownKeysMax) deleteFirst(this.#unknown);
    } else {
      this.#known.set(key, { identity, askedAtMs, version: row.version });
      this.#forgetOldest(askedAtMs);
    }
    return identity;
  }

  /** What is over the limit, and what is of no use any more: nobody's key is kept in memory for ever. */
  #forgetOldest(nowMs: number): void {
    for (const [key, { askedAtMs }] of this.#known) {
      if (this.#known.size <= knownKeysMax && nowMs - askedAtMs < believedUnchangedMsMax) return;
      this.#known.delete(key);
    }
  }
}

function identityOf(row: KeyHolderRow): Identity {
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

function deleteFirst(map: Map<string, unknown>): void {
  const first = map.keys().next();
  if (first.done !== true) map.delete(first.value);
}

const bearerPrefix = 'Bearer ';

/** The credential as nearly everybody sends it, unchecked; empty where `readCredential` has to look. */
function soleCredential(headers: IncomingHttpHeaders): string {
  const { authorization, 'x-api-key': apiKey } = headers;
  if (apiKey !== undefined) return authorization === undefined && typeof apiKey === 'string' ? apiKey : '';
  return authorization?.startsWith(bearerPrefix) === true ? authorization.slice(bearerPrefix.length) : '';
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

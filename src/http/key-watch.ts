import type { IncomingHttpHeaders } from 'node:http';
import type { Authenticator, Caller } from '../admission/authenticate.js';
import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import type { KeyScope } from '../tenancy/scopes.js';
import { admitAccess } from './admit.js';

/** Whether a key still holds is asked this long after it was asked the last time. */
const checkMs = 500;

/** What a request was let in with. */
export interface Admittance {
  readonly headers: IncomingHttpHeaders;
  readonly org: string;
  readonly scope: KeyScope;
}

interface Watched extends Admittance {
  readonly onLost: (refusal: Problem) => void;
}

/**
 * Whether the keys of requests that last (receivers that wait, streams) still hold. A key is asked for once for all of its requests, one after
 * the other, so that thousands of them ask the storage no more at once than one does: with few keys a refusal is known within a second, with very
 * many it takes as long as it takes to look at each.
 */
export class KeyWatch {
  readonly #authenticator: Pick<Authenticator, 'authenticate'>;
  readonly #clock: Clock;
  readonly #byCredential = new Map<string, Set<Watched>>();
  #checking = false;

  constructor(authenticator: Pick<Authenticator, 'authenticate'>, clock: Clock) {
    this.#authenticator = authenticator;
    this.#clock = clock;
  }

  /** Calls `onLost` when the request would be refused now, unless the returned function was called before. While nobody can tell, the key holds. */
  watch(admittance: Admittance, onLost: (refusal: Problem) => void): () => void {
    const { authorization, 'x-api-key': apiKey } = admittance.headers;
    const credential = String(authorization ?? apiKey);
    const watched = { ...admittance, onLost };
    const ofKey = this.#byCredential.get(credential) ?? new Set();
    this.#byCredential.set(credential, ofKey.add(watched));
    this.#checkLater();
    return () => {
      ofKey.delete(watched);
      if (ofKey.size === 0 && this.#byCredential.get(credential) === ofKey) this.#byCredential.delete(credential);
    };
  }

  /** Rejects with what the request would be refused with now, or with the reason why nobody can tell. */
  async check(admittance: Admittance): Promise<void> {
    requireHeld(admittance, await this.#authenticator.authenticate(admittance.headers));
  }

  #checkLater(): void {
    if (this.#checking || this.#byCredential.size === 0) return;
    this.#checking = true;
    this.#clock.after(checkMs, () => void this.#checkAll());
  }

  async #checkAll(): Promise<void> {
    // A copy: keys that come meanwhile must not make it endless.
    for (const ofKey of Array.from(this.#byCredential.values())) await this.#checkKey(ofKey);
    this.#checking = false;
    this.#checkLater();
  }

  async #checkKey(ofKey: ReadonlySet<Watched>): Promise<void> {
    const [first] = ofKey;
    if (first === undefined) return;
    let caller: Caller | Problem;
    try {
      caller = await this.#authenticator.authenticate(first.headers);
    } catch (error) {
      if (!(error instanceof Problem) || error.status >= 500) return;
      caller = error;
    }
    for (const watched of Array.from(ofKey)) {
      const refusal = caller instanceof Problem ? caller : refusalOf(watched, caller);
      if (refusal !== null) watched.onLost(refusal);
    }
  }
}

function refusalOf(admittance: Admittance, caller: Caller): Problem | null {
  try {
    requireHeld(admittance, caller);
    return null;
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

function requireHeld({ org, scope }: Admittance, caller: Caller): void {
  if (admitAccess({ access: scope }, caller)?.org !== org)
    throw new Problem('invalid_key', 'This key is no longer one of the same organisation.');
}

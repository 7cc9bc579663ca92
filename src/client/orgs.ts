import { allPages } from './pages.js';
import type { ListOptions } from './pages.js';
import type { Transport } from './transport.js';

export type Tier = 'free' | 'pro' | 'business' | 'enterprise';

export interface OrgLimits {
  readonly rate_per_minute: number;
  readonly burst: number;
  readonly mode: 'enforce' | 'shadow';
}

export interface Org {
  readonly id: string;
  readonly name: string;
  readonly tier: Tier;
  readonly limits: OrgLimits;
  readonly retention_days: number;
  readonly suspended: boolean;
  readonly created_at: string;
  readonly usage: Readonly<Record<string, unknown>>;
}

/** With its first key, which has all scopes and is shown only here. */
export type NewOrg = Org & { readonly key: string; readonly key_id: string };

export interface OrgChange {
  readonly name?: string;
  readonly tier?: Tier;
  readonly limits?: Partial<OrgLimits>;
  readonly suspended?: boolean;
}

interface Abortable {
  readonly signal?: AbortSignal;
}

/** The org of the key. */
export class OwnOrg {
  constructor(private readonly transport: Transport) {}

  /** Any valid key may ask, so this is how a key is tried. */
  get({ signal }: Abortable = {}): Promise<Org> {
    return this.transport.json({ method: 'GET', path: '/v1/org', repeat: 'harmless', signal });
  }

  update(change: { readonly retention_days?: number }, { signal }: Abortable = {}): Promise<Org> {
    const body = JSON.stringify(change);
    return this.transport.json({ method: 'PATCH', path: '/v1/org', body, repeat: 'harmless', signal });
  }
}

/** All orgs of a server; the client's `key` is then the server's admin token. */
export class Orgs {
  constructor(private readonly transport: Transport) {}

  create(org: { readonly name: string; readonly tier?: Tier }, { signal }: Abortable = {}): Promise<NewOrg> {
    const body = JSON.stringify(org);
    return this.transport.json({ method: 'POST', path: '/v1/orgs', body, repeat: 'doubles', signal });
  }

  list(options: ListOptions = {}): AsyncIterableIterator<Org> {
    return allPages(this.transport, '/v1/orgs', {}, options);
  }

  get(id: string, { signal }: Abortable = {}): Promise<Org> {
    return this.transport.json({ method: 'GET', path: orgPath(id), repeat: 'harmless', signal });
  }

  update(id: string, change: OrgChange, { signal }: Abortable = {}): Promise<Org> {
    const body = JSON.stringify(change);
    return this.transport.json({ method: 'PATCH', path: orgPath(id), body, repeat: 'harmless', signal });
  }

  /** Erases the org and everything of it. */
  async delete(id: string, { signal }: Abortable = {}): Promise<void> {
    await this.transport.request({ method: 'DELETE', path: orgPath(id), repeat: 'doubles', signal });
  }
}

function orgPath(id: string): string {
  return `/v1/orgs/${encodeURIComponent(id)}`;
}

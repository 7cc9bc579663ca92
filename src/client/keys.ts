import { allPages } from './pages.js';
import type { ListOptions } from './pages.js';
import type { Transport } from './transport.js';

export type Scope =
  'events:write' | 'events:read' | 'inbox:read' | 'inbox:consume' | 'webhooks:manage' | 'keys:manage' | 'org:manage';

export interface Key {
  readonly id: string;
  readonly name: string;
  /** The first characters of the key, by which people tell keys apart. */
  readonly prefix: string;
  readonly scopes: readonly Scope[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly last_used_at: string | null;
}

/** `key` is shown only here. */
export type NewKey = Key & { readonly key: string };

export interface KeySpec {
  readonly name: string;
  /** At most those of the key that asks; all of them when absent. */
  readonly scopes?: readonly Scope[];
  readonly expires_at?: string | null;
}

interface Abortable {
  readonly signal?: AbortSignal;
}

export class Keys {
  constructor(private readonly transport: Transport) {}

  create(spec: KeySpec, { signal }: Abortable = {}): Promise<NewKey> {
    return this.transport.json({
      method: 'POST',
      path: '/v1/keys',
      body: JSON.stringify(spec),
      repeat: 'doubles',
      signal,
    });
  }

  list(options: ListOptions = {}): AsyncIterableIterator<Key> {
    return allPages(this.transport, '/v1/keys', {}, options);
  }

  /** The key that asks. */
  current({ signal }: Abortable = {}): Promise<Key> {
    return this.transport.json({ method: 'GET', path: '/v1/keys/current', repeat: 'harmless', signal });
  }

  /** A new key in the place of this one, which dies after `graceSeconds` (0 when absent). */
  rotate(id: string, { graceSeconds, signal }: Abortable & { readonly graceSeconds?: number } = {}): Promise<NewKey> {
    return this.transport.json({
      method: 'POST',
      path: `/v1/keys/${encodeURIComponent(id)}/rotate`,
      body: JSON.stringify({ grace_seconds: graceSeconds }),
      repeat: 'doubles',
      signal,
    });
  }

  /** The key is dead everywhere within a second. */
  async delete(id: string, { signal }: Abortable = {}): Promise<void> {
    const path = `/v1/keys/${encodeURIComponent(id)}`;
    await this.transport.request({ method: 'DELETE', path, repeat: 'doubles', signal });
  }
}

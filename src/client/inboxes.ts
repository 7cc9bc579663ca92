import { allPages } from './pages.js';
import type { ListOptions } from './pages.js';
import type { Transport } from './transport.js';

export interface InboxSpec {
  /** 1 to 64 of `a-z 0-9 _ -`, starting with a letter. */
  readonly name: string;
  /** Patterns such as `order.*`; every type when absent. */
  readonly types?: readonly string[];
  /** Where in the log it begins: `now` (when absent), `beginning`, or a time. */
  readonly start?: string;
  /** After so many an event is a dead letter; 10 when absent. */
  readonly max_attempts?: number;
}

export interface InboxDescription {
  readonly name: string;
  /** Null: every type. */
  readonly types: readonly string[] | null;
  readonly max_attempts: number;
  /** How many of its events fell out of retention before they were done. */
  readonly expired: number;
  /** How many were erased with their subject before they were done. */
  readonly erased: number;
  readonly created_at: string;
}

interface Abortable {
  readonly signal?: AbortSignal;
}

export class Inboxes {
  constructor(private readonly transport: Transport) {}

  create(spec: InboxSpec, { signal }: Abortable = {}): Promise<InboxDescription> {
    const body = JSON.stringify(spec);
    return this.transport.json({ method: 'POST', path: '/v1/inboxes', body, repeat: 'doubles', signal });
  }

  list(options: ListOptions = {}): AsyncIterableIterator<InboxDescription> {
    return allPages(this.transport, '/v1/inboxes', {}, options);
  }

  get(name: string, { signal }: Abortable = {}): Promise<InboxDescription> {
    return this.transport.json({ method: 'GET', path: inboxPath(name), repeat: 'harmless', signal });
  }

  /** Other `types` hold for events stored from then on. */
  update(
    name: string,
    change: Pick<InboxSpec, 'max_attempts'> & { readonly types?: readonly string[] | null },
    { signal }: Abortable = {},
  ): Promise<InboxDescription> {
    const body = JSON.stringify(change);
    return this.transport.json({ method: 'PATCH', path: inboxPath(name), body, repeat: 'harmless', signal });
  }

  async delete(name: string, { signal }: Abortable = {}): Promise<void> {
    await this.transport.request({ method: 'DELETE', path: inboxPath(name), repeat: 'doubles', signal });
  }
}

export function inboxPath(name: string): string {
  return `/v1/inboxes/${encodeURIComponent(name)}`;
}

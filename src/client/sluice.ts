import { systemClientClock } from './clock.js';
import type { ClientClock } from './clock.js';
import { Events } from './events.js';
import { Inbox } from './inbox.js';
import { Inboxes } from './inboxes.js';
import { Keys } from './keys.js';
import { Orgs, OwnOrg } from './orgs.js';
import { defaultRetryLimits } from './retry.js';
import type { RetryLimits } from './retry.js';
import { Transport } from './transport.js';

export interface SluiceOptions {
  /** `http://host:port`, with a path where the server is behind one. */
  readonly url: string;
  /** A key (`slk_live_…`), or the server's admin token for `orgs`. */
  readonly key: string;
  /** Seconds that one attempt of a request may take, beyond what it asks the server to wait; 30 when absent. */
  readonly requestSeconds?: number;
  /** How often and how long a request is repeated: 8 attempts within 60 seconds when absent. */
  readonly retry?: Partial<RetryLimits>;
  readonly fetch?: typeof fetch;
  /** For tests. */
  readonly clock?: ClientClock;
}

const requestSecondsDefault = 30;

/** A client of one server with one key. It holds no connection that would have to be closed, and may be shared. */
export class Sluice {
  readonly events: Events;
  readonly inboxes: Inboxes;
  readonly keys: Keys;
  readonly org: OwnOrg;
  readonly orgs: Orgs;
  readonly #transport: Transport;

  /** Throws a `TypeError` for a URL or a key that cannot be one. */
  constructor(options: SluiceOptions) {
    const transport = new Transport({
      url: baseUrl(options.url),
      key: usableKey(options.key),
      requestSeconds: options.requestSeconds ?? requestSecondsDefault,
      retry: { ...defaultRetryLimits, ...options.retry },
      clock: options.clock ?? systemClientClock,
      fetch: options.fetch ?? fetch,
    });
    this.#transport = transport;
    this.events = new Events(transport);
    this.inboxes = new Inboxes(transport);
    this.keys = new Keys(transport);
    this.org = new OwnOrg(transport);
    this.orgs = new Orgs(transport);
  }

  /** The inbox of this name; `default` is the one that every org has. */
  inbox(name = 'default'): Inbox {
    return new Inbox(this.#transport, name);
  }
}

function baseUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isUsable = url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '';
  // fetch refuses a URL with a password, and would repeat it.
  if (!isUsable || url.username !== '' || url.password !== '') {
    throw new TypeError('The url is to be the address of a server, such as http://127.0.0.1:8080.');
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

/** What fetch would refuse in a header, it would repeat in its message. */
function usableKey(key: string): string {
  if (/^[!-~]{1,512}$/.test(key)) return key;
  throw new TypeError('The key is to be 1 to 512 printable characters without a space, such as slk_live_….');
}

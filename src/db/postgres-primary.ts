import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import type pg from 'pg';
import type { PostgresAddress, PostgresHost } from '../postgres-url.js';
import { hostText } from '../postgres-url.js';
import { StorageError } from './database.js';
import { sessionSetup, transactionSetup } from './session-settings.js';
import { reasonOf } from './wire-errors.js';
import { WireSession } from './wire-session.js';
import type { WireSessionOptions } from './wire-session.js';

/** One host gets this long to answer, encrypt, authenticate and set the session up; where there is another, less. */
const attemptMsMax = 5_000;
const attemptOfSeveralMsMax = 3_000;
/** An idle connection is asked whether it lives after this long; the system's own default is two hours. */
const keepAliveMs = 10_000;

const look = `SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::boolean AS read_only, pg_backend_pid() AS pid`;

interface Look {
  readonly standby: boolean;
  readonly read_only: boolean;
  readonly pid: number;
}

/**
 * Opens sessions on whichever host of an address takes writes: the one that did last, or else the others in their order. Each host has a bounded
 * time, so that one that is silent costs seconds.
 */
export class PrimaryConnector {
  readonly #address: PostgresAddress;
  readonly #attemptMsMax: number;
  #last = 0;
  #isPooled = false;

  constructor(address: PostgresAddress) {
    this.#address = address;
    const byDefault = address.hosts.length > 1 ? attemptOfSeveralMsMax : attemptMsMax;
    this.#attemptMsMax = address.connectSeconds === undefined ? byDefault : address.connectSeconds * 1_000;
  }

  /** Whether the last session led to a pooler, such as PgBouncer, rather than to the server itself. */
  get isPooled(): boolean {
    return this.#isPooled;
  }

  /** Opens and sets up a session. Rejects with a `StorageError` of kind `unavailable` that says of each host why not. */
  async open(options: WireSessionOptions): Promise<WireSession> {
    const { hosts } = this.#address;
    const first = this.#last;
    const failures: { readonly host: PostgresHost; readonly error: unknown }[] = [];
    for (let i = 0; i < hosts.length; i++) {
      const at = (first + i) % hosts.length;
      const host = hosts[at] as PostgresHost;
      try {
        const session = await this.#attempt(host, options);
        this.#last = at;
        return session;
      } catch (error) {
        failures.push({ host, error });
      }
    }
    if (failures.length === 1) throw failures[0]?.error;
    const reasons = failures.map(({ host, error }) => `${hostText(host)}: ${reasonOf(error)}`);
    const cause = new AggregateError(failures.map(({ error }) => error));
    throw new StorageError('unavailable', `no PostgreSQL that takes writes: ${reasons.join('; ')}`, { cause });
  }

  async #attempt(host: PostgresHost, options: WireSessionOptions): Promise<WireSession> {
    const { clock } = options;
    const startedAtMs = clock.monotonic();
    const session = await WireSession.open(this.#configOf(host), options);
    const leftMs = Math.max(1, this.#attemptMsMax - (clock.monotonic() - startedAtMs));
    const cancel = clock.after(leftMs, () => session.destroy(new Error('it took too long to set the session up')));
    try {
      const [row] = await session.run<Look>(look);
      const refusal = row?.standby === false ? row.read_only && 'takes no writes' : 'is a standby';
      if (refusal !== false) throw new Error(`the PostgreSQL server at ${hostText(host)} ${refusal}`);
      await this.#setUp(session, row?.pid);
      return session;
    } catch (error) {
      session.destroy(new Error('the session was not set up'));
      if (error instanceof StorageError && error.kind === 'unavailable') throw error;
      throw new StorageError('unavailable', `no database session: ${reasonOf(error)}`, { cause: error });
    } finally {
      cancel();
    }
  }

  /** A pooler may run the next transaction on another session of the server, where nothing of it would hold; and it would stay for others. */
  async #setUp(session: WireSession, serverProcess: number | undefined): Promise<void> {
    this.#isPooled = session.serverProcess !== serverProcess;
    if (this.#isPooled) session.beginEachWith(transactionSetup);
    else await session.run(sessionSetup);
  }

  #configOf({ host, port }: PostgresHost): pg.ClientConfig {
    const { user, password, database, applicationName = 'sluice', options } = this.#address;
    const ssl = tlsOf(this.#address);
    return {
      application_name: applicationName,
      connectionTimeoutMillis: this.#attemptMsMax,
      keepAlive: true,
      keepAliveInitialDelayMillis: keepAliveMs,
      ...(host !== undefined && { host }),
      ...(port !== undefined && { port }),
      ...(user !== undefined && { user }),
      ...(password !== undefined && { password }),
      ...(database !== undefined && { database }),
      ...(options !== undefined && { options }),
      ...(ssl !== undefined && { ssl }),
    };
  }
}

/**
 * As libpq does it, whatever the version of `pg` makes of a mode's name. The files are read for each connection, so that certificates can be
 * renewed while the program runs. Undefined where the address says nothing of it.
 */
function tlsOf({ sslMode, rootCert, cert, key }: PostgresAddress): ConnectionOptions | false | undefined {
  if (sslMode === undefined || sslMode === 'disable') return sslMode && false;
  const files = {
    ...(rootCert !== undefined && { ca: readText('sslrootcert', rootCert) }),
    ...(cert !== undefined && { cert: readText('sslcert', cert) }),
    ...(key !== undefined && { key: readText('sslkey', key) }),
  };
  if (sslMode === 'verify-full') return files;
  if (sslMode === 'require' && rootCert === undefined) return { ...files, rejectUnauthorized: false };
  return { ...files, checkServerIdentity: () => undefined };
}

function readText(parameter: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    // Not as its cause: a missing file must not be taken for a missing server.
    throw new StorageError('unavailable', `the ${parameter} of DATABASE_URL cannot be read: ${reasonOf(error)}`);
  }
}

/**
 * The address of a PostgreSQL database as libpq writes it, several hosts included, which neither `new URL` nor `pg` reads. A parameter that could not
 * be kept is refused rather than ignored: most of them are about who may read along.
 */

export interface PostgresHost {
  /** A name, an IP address, or the folder of a local socket. Undefined: what `PGHOST` says, or this machine. */
  readonly host: string | undefined;
  readonly port: number | undefined;
}

/**
 * How a connection is encrypted, and what proves who is at the other end:
 * - `disable`: not at all.
 * - `require`: encrypted; anybody may be at the other end, unless there is a `rootCert`: then as `verify-ca`.
 * - `verify-ca`: the certificate is signed by `rootCert`, whomever it names.
 * - `verify-full`: it is signed by `rootCert`, or by an authority that Node.js trusts, and names the host.
 */
export type SslMode = 'disable' | 'require' | 'verify-ca' | 'verify-full';

export interface PostgresAddress {
  /** In the order in which they are tried; at least one, at most `hostsMax`. */
  readonly hosts: readonly PostgresHost[];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string | undefined;
  readonly applicationName: string | undefined;
  /** Command-line options for the server's session. */
  readonly options: string | undefined;
  /** Undefined: what `PGSSLMODE` says to `pg`, or none. */
  readonly sslMode: SslMode | undefined;
  /** Files. */
  readonly rootCert: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** How long to try one host. */
  readonly connectSeconds: number | undefined;
}

export class PostgresUrlError extends Error {
  override readonly name = 'PostgresUrlError';
}

const hostsMax = 8;
const connectSecondsMax = 60;

/** Reads `postgres://user:password@host:port,host:port/database?parameters`. Throws a `PostgresUrlError` that repeats nothing secret. */
export function parsePostgresUrl(text: string): PostgresAddress {
  const parts = /^postgres(?:ql)?:\/\/(?:([^/?#]*)@)?([^/?#@]*)(?:\/([^/?#@]*))?(?:\?([^#]*))?$/.exec(text);
  if (parts === null) throw unreadable();
  const [, login = '', hostList = '', database = '', query = ''] = parts;
  const given = parametersOf(query);
  const colon = login.indexOf(':');
  const user = colon === -1 ? login : login.slice(0, colon);
  const password = colon === -1 ? '' : login.slice(colon + 1);
  return {
    hosts: hostsOf(hostList, given),
    user: decoded(user),
    password: decoded(password),
    database: decoded(database),
    applicationName: given.get('application_name'),
    options: given.get('options'),
    ...tlsOf(given),
    connectSeconds: connectSecondsOf(given.get('connect_timeout')),
  };
}

/** `host:port` of each host, for messages. */
export function hostText({ host = 'the local socket', port }: PostgresHost): string {
  const name = host.includes(':') ? `[${host}]` : host;
  return port === undefined ? name : `${name}:${port}`;
}

function hostsOf(list: string, given: ReadonlyMap<string, string>): PostgresHost[] {
  const hosts = list.split(',').map(hostOf);
  if (hosts.length > hostsMax) throw new PostgresUrlError(`it names ${hosts.length} hosts; use at most ${hostsMax}`);
  const host = given.get('host');
  if (hosts.length > 1 && hosts.some((one) => one.host === undefined)) throw unreadable();
  if (host === undefined) return hosts;
  if (list !== '' || host.includes(',')) {
    throw new PostgresUrlError(
      'the parameter host is for one local socket; write hosts before the path: a:5432,b:5432',
    );
  }
  return [{ host, port: undefined }];
}

function hostOf(text: string): PostgresHost {
  const parts = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]\s]*)(?::(\d{1,5}))?$/.exec(text);
  if (parts === null) throw unreadable();
  const [, host = '', digits] = parts;
  const port = digits === undefined ? undefined : Number(digits);
  if (port !== undefined && (port === 0 || port > 65_535)) throw unreadable();
  return { host: decoded(host.replace(/^\[|\]$/g, '')), port };
}

/** Parameters that this program keeps by itself, with the values for which that is true. */
const alreadySo: Readonly<Record<string, readonly string[]>> = {
  // Events are written, so only a server that takes writes will do.
  target_session_attrs: ['read-write', 'primary'],
  keepalives: ['1'],
  load_balance_hosts: ['disable'],
  client_encoding: ['utf8', 'UTF8', 'auto'],
  gssencmode: ['disable', 'prefer'],
  channel_binding: ['disable', 'prefer'],
};
const kept: readonly string[] =
  'host application_name options connect_timeout sslmode sslrootcert sslcert sslkey'.split(' ');

function parametersOf(query: string): Map<string, string> {
  const given = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query.replaceAll('+', '%2B'))) {
    const values = alreadySo[name];
    if (values !== undefined && !values.includes(value)) {
      throw new PostgresUrlError(
        `its parameter ${name} can only be ${values.join(' or ')} here; correct it, or leave it out`,
      );
    }
    if (values === undefined && !kept.includes(name)) throw unknownParameter(name);
    if (given.has(name)) throw new PostgresUrlError(`its parameter ${name} is given twice; give it once`);
    given.set(name, value);
  }
  return given;
}

function unknownParameter(name: string): PostgresUrlError {
  if (name === 'user' || name === 'password') {
    return new PostgresUrlError(`its parameter ${name} belongs before the host: user:password@host`);
  }
  if (name === 'ssl') return new PostgresUrlError('its parameter ssl is not PostgreSQL’s; use sslmode=verify-full');
  const shown = /^[a-z_]{1,40}$/.test(name) ? name : 'of that name';
  return new PostgresUrlError(`its parameter ${shown} is not one that can be kept; use only ${kept.join(', ')}`);
}

function tlsOf(given: ReadonlyMap<string, string>): Pick<PostgresAddress, 'sslMode' | 'rootCert' | 'cert' | 'key'> {
  const mode = given.get('sslmode');
  const sslMode = sslModes.find((known) => known === mode);
  if (mode !== undefined && sslMode === undefined) {
    throw new PostgresUrlError(
      'its sslmode may end without encryption, or is unknown; use disable, require, verify-ca or verify-full',
    );
  }
  const root = given.get('sslrootcert');
  // So libpq calls what the system trusts; for Node.js that is its own list and NODE_EXTRA_CA_CERTS.
  const rootCert = root === 'system' ? undefined : root;
  const [cert, key] = [given.get('sslcert'), given.get('sslkey')];
  if ((sslMode === undefined || sslMode === 'disable') && [root, cert, key].some((file) => file !== undefined)) {
    throw new PostgresUrlError('it names certificates and no encryption; add sslmode=verify-full');
  }
  if (sslMode === 'verify-ca' && rootCert === undefined) {
    throw new PostgresUrlError('its sslmode=verify-ca needs sslrootcert; name the file, or use verify-full');
  }
  if (root === 'system' && sslMode !== 'verify-full') {
    throw new PostgresUrlError('its sslrootcert=system proves nothing without sslmode=verify-full; use that');
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw new PostgresUrlError('it has only one of sslcert and sslkey; give both, or neither');
  }
  return { sslMode, rootCert, cert, key };
}

const sslModes: readonly SslMode[] = ['disable', 'require', 'verify-ca', 'verify-full'];

function connectSecondsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (seconds >= 1 && seconds <= connectSecondsMax) return seconds;
  throw new PostgresUrlError(`its connect_timeout is not a number of seconds from 1 to ${connectSecondsMax}`);
}

function decoded(text: string): string | undefined {
  try {
    return text === '' ? undefined : decodeURIComponent(text);
  } catch {
    throw unreadable();
  }
}

function unreadable(): PostgresUrlError {
  return new PostgresUrlError(
    'not an address that can be read; use hosts with ports up to 65535, and #, /, ?, @, : and % of the password as %23, %2F, %3F, %40, %3A and %25',
  );
}

/**
 * The settings: one table. A flag is its variable without `SLUICE_`, in small letters and dashes: `SLUICE_DATA_DIR` is `--data-dir`.
 * `config.ts` reads them, `cli/help.ts` lists them.
 */
import { bearerToken, folder, host, oneOf, postgresUrl, wholeNumber } from './setting-types.js';
import type { SettingType } from './setting-types.js';

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

export const migrateModes = ['auto', 'off'] as const;

export const roles = ['all', 'api', 'worker'] as const;

export interface Setting<Value = unknown> {
  readonly variable: string;
  readonly type: SettingType<Value>;
  /** Text as a person would write it, so that the help and the parser share it. Null: absent unless given. */
  readonly default: string | null;
  readonly help: string;
  /** The value never appears in a message. */
  readonly secret?: true;
}

function setting<Value>(
  row: Setting<Value> & { readonly default: string },
): Setting<Value> & { readonly default: string };
function setting<Value>(row: Setting<Value> & { readonly default: null }): Setting<Value> & { readonly default: null };
function setting<Value>(row: Setting<Value>): Setting<Value> {
  return row;
}

export const settings = {
  host: setting({
    variable: 'SLUICE_HOST',
    type: host,
    default: '127.0.0.1',
    help: 'Address to listen on. 0.0.0.0 or :: opens it to the network.',
  }),
  port: setting({
    variable: 'SLUICE_PORT',
    type: wholeNumber('port', 'a port', 0, 65_535),
    default: '8080',
    help: 'Port to listen on. 0 takes any free one, and the ready line says which.',
  }),
  dataDir: setting({
    variable: 'SLUICE_DATA_DIR',
    type: folder,
    default: './data',
    help: 'Folder of the embedded database. Unused with DATABASE_URL.',
  }),
  databaseUrl: setting({
    variable: 'DATABASE_URL',
    type: postgresUrl,
    default: null,
    secret: true,
    help: 'PostgreSQL 15 or newer to store in. Absent: the embedded database.',
  }),
  listenUrl: setting({
    variable: 'SLUICE_LISTEN_URL',
    type: postgresUrl,
    default: null,
    secret: true,
    help: 'The same database without a pooler, to be notified by. Absent: DATABASE_URL.',
  }),
  adminToken: setting({
    variable: 'SLUICE_ADMIN_TOKEN',
    type: bearerToken,
    default: null,
    secret: true,
    help: 'Manages orgs; 16 to 256 characters. Absent: made at the first start. Required with DATABASE_URL.',
  }),
  logLevel: setting({
    variable: 'SLUICE_LOG_LEVEL',
    type: oneOf('level', logLevels),
    default: 'info',
    help: `Least important log line to write to standard error: ${logLevels.join(', ')}.`,
  }),
  metricsPort: setting({
    variable: 'SLUICE_METRICS_PORT',
    type: wholeNumber('port', 'a port', 1, 65_535),
    default: null,
    help: 'Port that serves /metrics without the admin token. Absent: only on the main port, with it.',
  }),
  shutdownSeconds: setting({
    variable: 'SLUICE_SHUTDOWN_SECONDS',
    type: wholeNumber('seconds', 'a number of seconds', 1, 3600),
    default: '10',
    help: 'Seconds that requests under way may take to finish after SIGTERM.',
  }),
  connectionsMax: setting({
    variable: 'SLUICE_CONNECTIONS_MAX',
    type: wholeNumber('connections', 'a number of connections', 10, 1_000_000),
    default: '10000',
    help: 'Connections of clients, at most. Beyond them an idle one is closed for each new one.',
  }),
  migrate: setting({
    variable: 'SLUICE_MIGRATE',
    type: oneOf('when', migrateModes),
    default: 'auto',
    help: 'auto: a start brings the schema up to date. off: it fails unless `sluice migrate` has.',
  }),
  workers: setting({
    variable: 'SLUICE_WORKERS',
    type: wholeNumber('count', 'a number of processes', 1, 256),
    default: '1',
    help: 'Processes that share the port, at best one a core. More than one needs DATABASE_URL.',
  }),
  role: setting({
    variable: 'SLUICE_ROLE',
    type: oneOf('role', roles),
    default: 'all',
    help: 'api: requests. worker: retention and erasure. all: both. The first two need DATABASE_URL.',
  }),
  dbPool: setting({
    variable: 'SLUICE_DB_POOL',
    type: wholeNumber('connections', 'a number of connections', 2, 1000),
    default: '10',
    help: 'Connections to PostgreSQL of each process, at most. Unused with the embedded database.',
  }),
  ingestLanes: setting({
    variable: 'SLUICE_INGEST_LANES',
    type: wholeNumber('lanes', 'a number of lanes', 1, 16),
    default: '2',
    help: 'Batches of events stored at once, each on one of those connections. More than one only while the first takes long. The embedded database has one.',
  }),
  queueBytesMax: setting({
    variable: 'SLUICE_QUEUE_BYTES_MAX',
    type: wholeNumber('bytes', 'a number of bytes', 1_048_576, 4_294_967_296),
    default: '67108864',
    help: 'Bytes of events that may wait for the next commit. Beyond them a request gets 503.',
  }),
  queueAgeMsMax: setting({
    variable: 'SLUICE_QUEUE_AGE_MS_MAX',
    type: wholeNumber('ms', 'a number of milliseconds', 1, 600_000),
    default: '5000',
    help: 'Milliseconds an event may wait for its commit to begin. Beyond them its request gets 503.',
  }),
};

/** Names that belong to the interface but do nothing in this version. */
export const laterSettings = [
  {
    variable: 'REDIS_URL',
    placeholder: 'url',
    notice: 'has no effect in this version; rate limits and caches are per node',
  },
  {
    variable: 'SLUICE_WEBHOOK_ALLOW',
    placeholder: 'cidrs',
    notice: 'has no effect in this version; it sends no webhooks',
  },
] as const;

type Settings = typeof settings;
type ValueOf<Row> = Row extends Setting<infer Value> & { readonly default: infer Default }
  ? Value | (Default extends null ? null : never)
  : never;

/** The value of every setting, valid. `dataDir` is absolute; what is absent and has no default is null. */
export type Config = { readonly [Name in keyof Settings]: ValueOf<Settings[Name]> };

export function flagOf(variable: string): string {
  return variable
    .replace(/^SLUICE_/, '')
    .toLowerCase()
    .replaceAll('_', '-');
}

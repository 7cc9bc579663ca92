/** The composition root: builds every part by hand, in the order in which an event flows. The one file that sees all. */
import type { DatabaseStats, RunningServer } from './app.js';
import { Authenticator } from './admission/authenticate.js';
import { KeyUsage } from './admission/key-usage.js';
import { RateLimiter } from './admission/rate-limit.js';
import type { Clock } from './clock.js';
import type { Config } from './config.js';
import type { Database } from './db/database.js';
import { StorageError } from './db/database.js';
import type { EmbeddedDatabase } from './db/embedded.js';
import { EmbeddedMaintenance } from './db/embedded-maintenance.js';
import { bringUpSchema } from './db/migrate.js';
import { probeStorage } from './db/sql/probe.js';
import { cursorSecret } from './db/sql/secrets.js';
import type { BatchOutcome } from './event-log/append.js';
import { BlockedHeads } from './event-log/blocked-heads.js';
import { Announcer } from './event-log/announcer.js';
import type { NewEvent } from './event-log/new-event.js';
import { Partitions } from './event-log/partitions.js';
import { Retention } from './event-log/retention.js';
import { Wakeups } from './event-log/wakeups.js';
import { CursorSigner } from './http/cursor.js';
import { Problem } from './errors.js';
import { EventStreams } from './http/event-streams.js';
import { KeyWatch } from './http/key-watch.js';
import { encodeOrgId } from './ids.js';
import { MetricsServer } from './http/metrics-server.js';
import { Readiness } from './http/readiness.js';
import type { RouteTableOptions } from './http/routes/table.js';
import { operationsRoutes } from './http/routes/operations.js';
import { routeTable } from './http/routes/table.js';
import { HttpServer } from './http/server.js';
import { Inbox } from './inbox/inbox.js';
import { Inboxes } from './inbox/inboxes.js';
import { AtomicCommit } from './ingest/atomic-commit.js';
import { bodyBytesMax } from './ingest/envelope.js';
import { IngestLanes } from './ingest/ingest-lanes.js';
import { storeAtomic } from './ingest/store-atomic.js';
import type { StoreBatchOptions } from './ingest/store-batch.js';
import { storeBatch } from './ingest/store-batch.js';
import type { Service } from './lifecycle.js';
import { startAll, stopAll } from './lifecycle.js';
import { expireBefore } from './subscriptions/expire.js';
import type { Logger } from './log.js';
import type { Siblings } from './siblings.js';
import type { Telemetry } from './telemetry.js';
import { createTelemetry, registerEmbedded, registerGauges } from './telemetry.js';
import { Keys } from './tenancy/keys.js';
import { OrgErasure } from './tenancy/org-erasure.js';
import { SubjectErasure } from './tenancy/subject-erasure.js';
import { Erasures } from './tenancy/erasures.js';
import { Orgs } from './tenancy/orgs.js';
import { adminToken, firstKeyShown, firstStart } from './tenancy/first-start.js';

const batchEventsMax = 1_000;
/** On an engine with one session a read waits for the batch before it. */
const batchEventsWhileReadingMax = 200;
const batchBytesMax = 8 * 1024 * 1024;
/** How long to ask what became of a COMMIT without an answer: below the time that clients usually wait. */
const outcomeWaitMsMax = 8_000;
/** SQLSTATE undefined_table: a day has no partition. */
const missingTable = '42P01';

export interface Parts {
  readonly config: Config;
  readonly log: Logger;
  readonly onProgress: (text: string) => void;
  readonly clock: Clock;
  readonly database: Database;
  readonly stats: DatabaseStats;
  /** The same database, if it is the embedded one. */
  readonly embedded: EmbeddedDatabase | null;
  /** How many batches may be stored at once. */
  readonly ingestLanes: number;
  /** The other processes of this node; absent where it is the only one. */
  readonly siblings?: Siblings | undefined;
}

/** Brings the schema up to date, builds every part and starts it. Resolves when events can be taken. */
export async function composeServer(parts: Parts): Promise<RunningServer> {
  const { config, log, onProgress, clock, database, stats, embedded, siblings } = parts;
  // One of several finds it done.
  await bringUpSchema(database, siblings === undefined ? config.migrate : 'off', onProgress);
  const [serves, works] = [config.role !== 'worker', config.role !== 'api'];
  const dataDir = database.engine === 'embedded' ? config.dataDir : null;
  const token = await adminToken(config.adminToken, config.dataDir);
  const cursors = new CursorSigner(await cursorSecret(database));
  const telemetry = createTelemetry();
  const failed = (task: string) => (error: unknown) => {
    telemetry.backgroundFailures.inc({ task });
    log.warn({ task, err: error }, 'background work failed and will be tried again');
  };

  const authenticator = new Authenticator(database, clock, token.value);
  const forget = (org: string): void => authenticator.forget(org);
  const keys = new Keys(database, clock, forget);
  const erasure = new OrgErasure({
    database,
    clock,
    onErased: (org, rows) => {
      telemetry.orgsErased.inc();
      log.info({ org: encodeOrgId(org), rows }, 'a deleted organisation is erased');
    },
    onFailure: failed('org erasure'),
  });
  const subjectErasure = new SubjectErasure({
    database,
    clock,
    onStep: (events, isDone) => {
      telemetry.eventsErased.inc(events);
      if (isDone) telemetry.subjectsErased.inc();
    },
    onFailure: failed('subject erasure'),
  });
  // Where another node does it, that one looks for itself within a minute.
  const erasures = new Erasures(database, clock, () => works && subjectErasure.check());
  const orgs = new Orgs(database, clock, forget, () => works && erasure.check());
  const keyUsage = new KeyUsage(database, clock, failed('key usage'));
  const limiter = new RateLimiter(clock, undefined, siblings && ((spent) => siblings.spent(spent)));
  const scrape = (): Promise<string> => (siblings === undefined ? telemetry.registry.metrics() : siblings.scrape());
  siblings?.join({
    metrics: () => telemetry.registry.getMetricsAsJSON(),
    spentElsewhere: (spent) => limiter.spentElsewhere(spent),
  });

  const partitions = new Partitions(database, clock, failed('partitions'));
  const retention = new Retention(
    database,
    clock,
    (org, day) => expireBefore(database, org, day),
    (counts) => {
      telemetry.retentionDeleted.inc({ what: 'days' }, counts.droppedDays);
      telemetry.retentionDeleted.inc({ what: 'events' }, counts.deletedEvents);
      telemetry.retentionDeleted.inc({ what: 'dedup' }, counts.deletedDedup);
    },
    failed('retention'),
  );
  const wakeups = new Wakeups();
  const announcer = new Announcer(database, clock, wakeups, failed('announcer'));
  const onBlockersEnded = (sessions: number): void => {
    telemetry.headBlockersEnded.inc(sessions);
    log.warn({ sessions }, 'ended database sessions that held the head of a log for more than 3 s');
  };
  const blockedHeads = new BlockedHeads(database, clock, onBlockersEnded, failed('blocked heads'));
  const storing: StoreBatchOptions = {
    database,
    clock,
    blockedHeads,
    outcomeWaitMsMax,
    onStored: (stored, outcome, durationMs) => {
      countBatch(telemetry, outcome, durationMs);
      announcer.appended(new Set(stored.map((event: NewEvent) => event.org)));
    },
    onFailure: (error) => {
      const kind = error instanceof StorageError ? (error.sqlstate ?? error.kind) : 'outcome_unknown';
      telemetry.batchFailures.inc({ kind });
      if (kind === missingTable) partitions.check();
      log.warn({ err: error }, 'a batch could not be stored');
    },
  };
  const queue = {
    clock,
    refusal: () => (embedded?.space.isShort === true ? diskFull() : null),
    queueBytesMax: config.queueBytesMax,
    queueAgeMsMax: config.queueAgeMsMax,
  };
  const ingest = new IngestLanes(parts.ingestLanes, {
    ...queue,
    store: (batch, lane) => storeBatch(storing, batch, lane),
    batchEventsMax: () => (embedded?.readsWait === true ? batchEventsWhileReadingMax : batchEventsMax),
    batchBytesMax,
  });
  const inbox = new Inbox(database, clock, wakeups, (org) => announcer.appended([org]));
  const inboxes = new Inboxes(database, clock, (org) => announcer.appended([org]));
  const atomic = new AtomicCommit({
    ...queue,
    store: (batch) => storeAtomic(storing, batch, ingest.laneBeside(batch[0]?.org ?? '0')),
  });
  const keyWatch = new KeyWatch(authenticator, clock);
  const onStreamFailure = (error: unknown): void => log.error({ err: error }, 'a stream of events failed');
  const streams = new EventStreams({ database, clock, wakeups, keyWatch, onFailure: onStreamFailure });
  const readiness = new Readiness(
    clock,
    () => probeStorage(database, Math.floor(clock.now() / 86_400_000)),
    () => (embedded?.space.isShort === true ? 'disk' : null),
  );
  const maintenance = embedded && embeddedMaintenance(parts, embedded, telemetry, failed('embedded maintenance'));

  const http = new HttpServer({
    host: config.host,
    port: config.port,
    admission: {
      authenticator,
      limiter,
      keyUsage,
      bodyLimit: { bytesMax: bodyBytesMax, code: 'payload_too_large' },
    },
    routes: routesOf(config.role, {
      database,
      ingest,
      atomic,
      streams,
      inbox,
      inboxes,
      keyWatch,
      keys,
      erasures,
      orgs,
      cursors,
      clock,
      readiness,
      telemetry,
      scrape,
    }),
    telemetry,
    log,
    clock,
    drainMsMax: config.shutdownSeconds * 1000,
    connectionsMax: config.connectionsMax,
  });
  registerGauges(telemetry, {
    connections: () => http.openConnections,
    idleConnections: () => http.idleConnections,
    queueEvents: () => ingest.waitingEvents + atomic.waitingEvents,
    queueBytes: () => ingest.waitingBytes + atomic.waitingBytes,
    inboxWaiters: () => wakeups.waiting,
    eventStreams: () => streams.open,
    sessionsInUse: () => stats().sessionsInUse,
    sessionsWaiting: () => stats().waiting,
    sessionSeconds: () => stats().serviceMs / 1000,
    sessionsRefused: () => stats().refused,
  });

  const metrics = config.metricsPort === null ? [] : [new MetricsServer(config.host, config.metricsPort, scrape)];

  // Stopped in reverse: the door first, then what stands behind it. Partitions are made ahead in every role, so that a day without one never stops
  // ingest, whatever else runs.
  const services: Service[] = [
    partitions,
    ...(serves ? [announcer] : []),
    ...(maintenance === null ? [] : [maintenance]),
    ...(serves ? [keyUsage] : []),
    ...(works ? [erasure, subjectErasure, retention] : []),
    ...(serves ? [ingest, atomic] : []),
    ...metrics,
    http,
  ];
  const first = dataDir === null ? null : await firstStart(orgs, dataDir);
  await startAll(services);

  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    readiness.drain();
    inbox.drain();
    streams.drain();
    try {
      await stopAll(services);
    } finally {
      await database.close();
    }
  };
  return {
    address: http.address,
    engine: database.engine,
    role: config.role,
    dataDir,
    adminToken: token,
    firstStart: first,
    announced: () => (dataDir === null || first === null ? Promise.resolve() : firstKeyShown(dataDir)),
    stop: () => (stopping ??= stop()),
  };
}

/** In the role worker the port is there for whoever watches the process. */
function routesOf(role: Config['role'], parts: RouteTableOptions): ReturnType<typeof routeTable> {
  return role === 'worker' ? operationsRoutes(parts) : routeTable(parts);
}

function embeddedMaintenance(
  { clock, log, config }: Parts,
  engine: EmbeddedDatabase,
  telemetry: Telemetry,
  onFailure: (error: unknown) => void,
): EmbeddedMaintenance {
  const maintenance = new EmbeddedMaintenance({
    engine,
    clock,
    onFailure,
    onDone: (task, seconds) => durations.observe({ task }, seconds),
    onLarge: (bytes) => {
      const text =
        'the embedded database is near the size it is not meant for; PostgreSQL is: ' +
        'sluice export to a file, then sluice import from it with DATABASE_URL set';
      log.warn({ dataDir: config.dataDir, bytes }, text);
    },
  });
  const durations = registerEmbedded(telemetry, {
    fsyncs: () => engine.fsyncs,
    reopens: () => engine.stats().reopens,
    memoryBytes: () => engine.stats().memoryBytes,
    walBytes: () => maintenance.walBytes,
    databaseBytes: () => maintenance.sizeBytes,
    diskFreeBytes: () => engine.space.freeBytes,
  });
  return maintenance;
}

function diskFull(): Problem {
  const detail =
    'The disk of the server is nearly full. Nothing was stored; whoever runs the server has to make room. Send it again later.';
  return new Problem('storage_unavailable', detail, { retryAfterSeconds: 10 });
}

function countBatch(telemetry: Telemetry, outcome: BatchOutcome, durationMs: number): void {
  telemetry.batchEvents.observe(outcome.events.length);
  telemetry.batchSeconds.observe(durationMs / 1000);
  telemetry.eventsStored.inc(outcome.storedEvents);
  for (const { kind } of outcome.events) {
    if (kind === 'duplicate') telemetry.eventsDuplicate.inc();
    else if (kind === 'dedup_mismatch') telemetry.eventsMismatched.inc();
  }
}

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { LatencyHistogram } from './latency-histogram.js';

/** Every metric the program emits; `docs/metrics.md` lists them. Labels have few values: never an org, an id or a path as it was sent. */
export interface Telemetry {
  readonly registry: Registry;
  /** By `method`, `route` and `status`. */
  readonly requestSeconds: LatencyHistogram;
  readonly problems: Counter<'code'>;
  readonly requestsAborted: Counter;
  readonly compressedReplies: Counter<'encoding'>;
  readonly plainReplies: Counter<'reason'>;
  readonly compressionSavedBytes: Counter;
  readonly connectionPressure: Counter<'what'>;
  readonly rateLimited: Counter<'bucket' | 'mode'>;
  readonly eventsStored: Counter;
  readonly eventsDuplicate: Counter;
  readonly eventsMismatched: Counter;
  readonly batchEvents: Histogram;
  readonly batchSeconds: Histogram;
  readonly batchFailures: Counter<'kind'>;
  readonly headBlockersEnded: Counter;
  readonly eventsHandedOut: Counter<'redelivery'>;
  readonly eventsAcknowledged: Counter;
  readonly eventsReleased: Counter;
  readonly retentionDeleted: Counter<'what'>;
  readonly orgsErased: Counter;
  readonly subjectsErased: Counter;
  readonly eventsErased: Counter;
  readonly backgroundFailures: Counter<'task'>;
}

/** What is read at the moment of a scrape. */
export interface Gauges {
  readonly connections: () => number;
  readonly idleConnections: () => number;
  readonly queueEvents: () => number;
  readonly queueBytes: () => number;
  readonly inboxWaiters: () => number;
  readonly eventStreams: () => number;
  readonly sessionsInUse: () => number;
  readonly sessionsWaiting: () => number;
  readonly sessionSeconds: () => number;
  /** Never falls. */
  readonly sessionsRefused: () => number;
}

/** The same of the embedded engine. */
export interface EmbeddedGauges {
  readonly fsyncs: () => number;
  readonly reopens: () => number;
  readonly memoryBytes: () => number;
  readonly walBytes: () => number;
  readonly databaseBytes: () => number;
  readonly diskFreeBytes: () => number;
}

/** Of the text that a registry writes. */
export const metricsMediaType: string = Registry.PROMETHEUS_CONTENT_TYPE;

const latencyBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export function createTelemetry(): Telemetry {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  return {
    registry,
    requestSeconds: new LatencyHistogram(registry, {
      name: 'sluice_http_request_duration_seconds',
      help: 'From the first byte of a request to the last of its reply, by route template.',
      bounds: latencyBuckets,
    }),
    problems: new Counter({
      name: 'sluice_http_problems_total',
      help: 'Refused requests, by error code.',
      labelNames: ['code'],
      registers,
    }),
    requestsAborted: new Counter({
      name: 'sluice_http_requests_aborted_total',
      help: 'Requests whose client closed the connection before their body had arrived.',
      registers,
    }),
    compressedReplies: new Counter({
      name: 'sluice_http_compressed_replies_total',
      help: 'Replies that went out compressed, by their encoding.',
      labelNames: ['encoding'],
      registers,
    }),
    plainReplies: new Counter({
      name: 'sluice_http_plain_replies_total',
      help: 'Replies of 1 KiB and more that went out as they are, by why.',
      labelNames: ['reason'],
      registers,
    }),
    compressionSavedBytes: new Counter({
      name: 'sluice_http_compression_saved_bytes_total',
      help: 'Bytes of replies that did not have to be sent, since they were compressed.',
      registers,
    }),
    connectionPressure: new Counter({
      name: 'sluice_http_connection_pressure_total',
      help: 'Connections beyond the limit, by what was done for each.',
      labelNames: ['what'],
      registers,
    }),
    rateLimited: new Counter({
      name: 'sluice_rate_limited_total',
      help: 'Requests over their rate limit, by bucket; in mode "shadow" they were let through.',
      labelNames: ['bucket', 'mode'],
      registers,
    }),
    eventsStored: new Counter({ name: 'sluice_events_stored_total', help: 'Events committed to the log.', registers }),
    eventsDuplicate: new Counter({
      name: 'sluice_events_duplicate_total',
      help: 'Events that repeated a stored one under its dedup id.',
      registers,
    }),
    eventsMismatched: new Counter({
      name: 'sluice_events_dedup_mismatch_total',
      help: 'Events refused because their dedup id belongs to another event.',
      registers,
    }),
    batchEvents: new Histogram({
      name: 'sluice_batch_events',
      help: 'Events in one commit.',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
      registers,
    }),
    batchSeconds: new Histogram({
      name: 'sluice_batch_duration_seconds',
      help: 'From the begin of a batch to its commit on disk.',
      buckets: latencyBuckets,
      registers,
    }),
    batchFailures: new Counter({
      name: 'sluice_batch_failures_total',
      help: 'Attempts to store a batch that failed, by kind: a SQLSTATE, unavailable or outcome_unknown.',
      labelNames: ['kind'],
      registers,
    }),
    headBlockersEnded: new Counter({
      name: 'sluice_head_blockers_ended_total',
      help: 'Database sessions ended because they held the head of a log for more than 3 s.',
      registers,
    }),
    eventsHandedOut: new Counter({
      name: 'sluice_inbox_events_handed_out_total',
      help: 'Events handed out under a lease; "redelivery" tells whether for the first time.',
      labelNames: ['redelivery'],
      registers,
    }),
    eventsAcknowledged: new Counter({
      name: 'sluice_inbox_events_acknowledged_total',
      help: 'Events acknowledged.',
      registers,
    }),
    eventsReleased: new Counter({
      name: 'sluice_inbox_events_released_total',
      help: 'Events given back before their lease ended.',
      registers,
    }),
    retentionDeleted: new Counter({
      name: 'sluice_retention_deleted_total',
      help: 'Taken out of the log because no organisation keeps it any more.',
      labelNames: ['what'],
      registers,
    }),
    orgsErased: new Counter({
      name: 'sluice_orgs_erased_total',
      help: 'Deleted organisations of which nothing is left any more.',
      registers,
    }),
    subjectsErased: new Counter({
      name: 'sluice_subjects_erased_total',
      help: 'Erasures of subjects that are done.',
      registers,
    }),
    eventsErased: new Counter({
      name: 'sluice_events_erased_total',
      help: 'Events deleted by erasures of subjects.',
      registers,
    }),
    backgroundFailures: new Counter({
      name: 'sluice_background_failures_total',
      help: 'Failures of background work, which is tried again.',
      labelNames: ['task'],
      registers,
    }),
  };
}

export function registerGauges({ registry }: Telemetry, gauges: Gauges): void {
  const gauge = gaugeIn(registry);
  gauge('sluice_processes', 'Processes that take the requests of this node.', () => 1);
  gauge('sluice_http_connections', 'Connections of clients that are open.', gauges.connections);
  gauge('sluice_http_idle_connections', 'Connections without a request under way.', gauges.idleConnections);
  gauge('sluice_ingest_queue_events', 'Events waiting for their commit.', gauges.queueEvents);
  gauge('sluice_ingest_queue_bytes', 'Memory taken by the events waiting for their commit.', gauges.queueBytes);
  gauge('sluice_inbox_waiters', 'Receivers waiting for an event.', gauges.inboxWaiters);
  gauge('sluice_event_streams', 'Streams of events that are open.', gauges.eventStreams);
  gauge('sluice_db_sessions_in_use', 'Database sessions at work.', gauges.sessionsInUse);
  gauge('sluice_db_sessions_waiting', 'Callers waiting for a database session.', gauges.sessionsWaiting);
  gauge(
    'sluice_db_session_seconds',
    'How long a caller keeps a database session, of late.',
    gauges.sessionSeconds,
    'average',
  );
  const refused: Counter = new Counter({
    name: 'sluice_db_sessions_refused_total',
    help: 'Callers refused, since they would wait too long for a database session.',
    registers: [registry],
    collect() {
      refused.reset();
      refused.inc(gauges.sessionsRefused());
    },
  });
}

/** Returns what a task of maintenance is told of, once it is done. */
export function registerEmbedded({ registry }: Telemetry, gauges: EmbeddedGauges): Histogram<'task'> {
  const gauge = gaugeIn(registry);
  gauge('sluice_embedded_fsyncs', 'Syncs to disk by the embedded engine since the start.', gauges.fsyncs);
  gauge('sluice_embedded_reopens', 'Times the embedded engine was reopened since the start.', gauges.reopens);
  gauge('sluice_embedded_memory_bytes', 'Memory of the embedded engine; 2 GiB at most.', gauges.memoryBytes);
  gauge('sluice_embedded_wal_bytes', 'Log that a recovery would replay, as of the last second.', gauges.walBytes);
  gauge('sluice_embedded_database_bytes', 'The database on disk without its log.', gauges.databaseBytes);
  gauge('sluice_embedded_disk_free_bytes', 'Room on the file system of the data folder.', gauges.diskFreeBytes);
  return new Histogram({
    name: 'sluice_embedded_maintenance_seconds',
    help: 'How long a task of maintenance kept the embedded engine to itself.',
    labelNames: ['task'],
    buckets: latencyBuckets,
    registers: [registry],
  });
}

function gaugeIn(registry: Registry) {
  return (name: string, help: string, read: () => number, aggregator: 'sum' | 'average' = 'sum'): void => {
    const collect = (): void => metric.set(read());
    const metric: Gauge = new Gauge({ name, help, registers: [registry], collect, aggregator });
  };
}

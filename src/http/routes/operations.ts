import type { Readiness } from '../readiness.js';
import { metricsMediaType } from '../../telemetry.js';
import { operationsDocs } from '../openapi/operations-docs.js';
import type { Reply, Route } from '../route.js';
import { json } from '../route.js';

export interface OperationsRoutesOptions {
  readonly readiness: Readiness;
  /** The metrics of this node, as text. */
  readonly scrape: () => Promise<string>;
}

export function operationsRoutes({ readiness, scrape }: OperationsRoutesOptions): Route[] {
  return [
    {
      method: 'GET',
      path: '/healthz',
      docs: operationsDocs.healthz,
      access: 'public',
      bucket: null,
      handler: () => json(200, { status: 'ok' }, uncached),
    },
    {
      method: 'GET',
      path: '/readyz',
      docs: operationsDocs.readyz,
      access: 'public',
      bucket: null,
      handler: async () => {
        const failing = await readiness.failing();
        if (failing === null) return json(200, { status: 'ready' }, uncached);
        return json(503, { status: 'not_ready', failing }, { ...uncached, 'Retry-After': '1' });
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      docs: operationsDocs.metrics,
      access: 'admin',
      bucket: null,
      handler: () => metricsReply(scrape),
    },
  ];
}

const uncached = { 'Cache-Control': 'no-store' };

export async function metricsReply(scrape: () => Promise<string>): Promise<Reply> {
  return { status: 200, body: await scrape(), mediaType: metricsMediaType };
}

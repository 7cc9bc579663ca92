import type { Readiness } from '../readiness.js';
import { errorTable } from '../../errors.js';
import type { Telemetry } from '../../telemetry.js';
import { errorDocsPath } from '../problem.js';
import type { Reply, Route } from '../route.js';
import { json } from '../route.js';

export interface OperationsRoutesOptions {
  readonly readiness: Readiness;
  readonly telemetry: Telemetry;
}

export function operationsRoutes({ readiness, telemetry }: OperationsRoutesOptions): Route[] {
  return [
    {
      method: 'GET',
      path: '/healthz',
      access: 'public',
      bucket: null,
      handler: () => json(200, { status: 'ok' }, uncached),
    },
    {
      method: 'GET',
      path: '/readyz',
      access: 'public',
      bucket: null,
      handler: async () => {
        const failing = await readiness.failing();
        if (failing === null) return json(200, { status: 'ready' }, uncached);
        return json(503, { status: 'not_ready', failing }, { ...uncached, 'Retry-After': '1' });
      },
    },
    { method: 'GET', path: '/metrics', access: 'admin', bucket: null, handler: () => metricsReply(telemetry) },
    { method: 'GET', path: errorDocsPath, access: 'public', bucket: null, handler: () => errorDocs },
  ];
}

const uncached = { 'Cache-Control': 'no-store' };

export async function metricsReply({ registry }: Telemetry): Promise<Reply> {
  return { status: 200, body: await registry.metrics(), mediaType: registry.contentType };
}

/** What the `type` of a problem links to. */
const errorDocs: Reply = {
  status: 200,
  mediaType: 'text/html; charset=utf-8',
  body: [
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sluice: errors</title><h1>Errors</h1>',
    '<p>Each refusal names its code; its <code>detail</code> says what to do next.</p>',
    ...Object.entries(errorTable).map(
      ([code, { status, title }]) => `<h2 id="${code}"><code>${code}</code></h2><p>${status} · ${title}</p>`,
    ),
    '</html>',
  ].join('\n'),
};

import { Type } from '@sinclair/typebox';
import type { RouteDocs } from './route-docs.js';
import { jsonReply } from './route-docs.js';

const group = 'Operations';
const text = Type.String();
const html = { 'text/html': text };
const cached = ['ETag', 'Cache-Control'] as const;

export const operationsDocs = {
  healthz: {
    id: 'readHealth',
    group,
    summary: 'Whether the process lives',
    replies: {
      200: jsonReply('It does.', Type.Object({ status: Type.Literal('ok', { description: 'Always `ok`.' }) }), [
        'Cache-Control',
      ]),
    },
  },
  readyz: {
    id: 'readReadiness',
    group,
    summary: 'Whether the node can store an event now',
    replies: {
      200: jsonReply('It can.', Type.Object({ status: Type.Literal('ready', { description: 'Always `ready`.' }) }), [
        'Cache-Control',
      ]),
      503: jsonReply(
        'It cannot.',
        Type.Object({ status: Type.Literal('not_ready', { description: 'Always `not_ready`.' }), failing: text }),
        ['Cache-Control', 'Retry-After'],
      ),
    },
  },
  metrics: {
    id: 'readMetrics',
    group,
    summary: 'Metrics for Prometheus',
    replies: { 200: { description: 'The metrics in the text format.', content: { 'text/plain': text } } },
  },
  errors: {
    id: 'readErrorsPage',
    group,
    summary: 'The page of all error codes',
    requestHeaders: ['If-None-Match'],
    replies: {
      200: { description: 'The page that the `type` of a problem links to.', content: html, headers: cached },
      304: { description: 'The client has it already.', headers: cached },
    },
  },
  document: {
    id: 'readDocument',
    group,
    summary: 'This document',
    requestHeaders: ['If-None-Match'],
    replies: {
      200: jsonReply('The document (OpenAPI 3.1).', Type.Object({}, { additionalProperties: true }), cached),
      304: { description: 'The client has it already.', headers: cached },
    },
  },
  page: {
    id: 'readDocumentPage',
    group,
    summary: 'This document as a page',
    requestHeaders: ['If-None-Match'],
    replies: {
      200: { description: 'The page.', content: html, headers: cached },
      304: { description: 'The client has it already.', headers: cached },
    },
  },
} as const satisfies Record<string, RouteDocs>;

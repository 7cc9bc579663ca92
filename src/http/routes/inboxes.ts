import { Type } from '@sinclair/typebox';
import { invalid } from '../../errors.js';
import { parseSeekTarget } from '../../inbox/inbox.js';
import type { InboxInfo, Inboxes } from '../../inbox/inboxes.js';
import { defaultInboxName, inboxNamePattern, noInbox } from '../../inbox/inboxes.js';
import { formatTime } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { listQuery, page } from '../paging.js';
import { inboxesDocs } from '../openapi/inbox-docs.js';
import { forKeys, json } from '../route.js';
import { checkPatterns, typePatternsMax } from '../type-filter.js';

export interface InboxesRoutesOptions {
  readonly inboxes: Inboxes;
  readonly cursors: CursorSigner;
}

const types = Type.Optional(
  Type.Union([Type.Array(Type.String(), { minItems: 1, maxItems: typePatternsMax }), Type.Null()]),
);
export const maxAttemptsMax = 100;
const maxAttempts = Type.Optional(Type.Integer({ minimum: 1, maximum: maxAttemptsMax }));
const attemptsDefault = 10;

/** The inboxes themselves: what there is, what each wants. */
export function inboxesRoutes({ inboxes, cursors }: InboxesRoutesOptions) {
  return [
    forKeys({
      method: 'POST',
      path: '/v1/inboxes',
      docs: inboxesDocs.create,
      access: 'org:manage',
      bucket: 'read',
      body: Type.Object(
        {
          name: Type.String({ pattern: inboxNamePattern }),
          types,
          start: Type.Optional(Type.String()),
          max_attempts: maxAttempts,
        },
        { additionalProperties: false },
      ),
      handler: async ({ identity, body }) => {
        const spec = {
          name: body['name'] as string,
          types: readTypes(body['types']) ?? null,
          start: parseSeekTarget(identity.org, (body['start'] as string | undefined) ?? 'now', '/start'),
          maxAttempts: (body['max_attempts'] as number | undefined) ?? attemptsDefault,
        };
        const inbox = await inboxes.create(identity.org, spec, identity.keyId);
        return json(201, inboxJson(inbox), { Location: `/v1/inboxes/${inbox.name}` });
      },
    }),
    forKeys({
      method: 'GET',
      path: '/v1/inboxes',
      docs: inboxesDocs.list,
      access: 'org:manage',
      bucket: 'read',
      query: listQuery,
      handler: async ({ identity, query }) =>
        page(query, cursors, ['inboxes', identity.org], {
          read: (after, limit) => inboxes.list(identity.org, after, limit),
          placeOf: (inbox) => inbox.name,
          render: inboxJson,
        }),
    }),
    forKeys({
      method: 'GET',
      path: '/v1/inboxes/:name',
      docs: inboxesDocs.read,
      access: 'org:manage',
      bucket: 'read',
      handler: async ({ identity, params }) =>
        json(200, inboxJson(found(await inboxes.find(identity.org, params['name'] ?? '')))),
    }),
    forKeys({
      method: 'PATCH',
      path: '/v1/inboxes/:name',
      docs: inboxesDocs.change,
      access: 'org:manage',
      bucket: 'read',
      body: Type.Object({ types, max_attempts: maxAttempts }, { additionalProperties: false }),
      handler: async ({ identity, params, body }) => {
        const name = params['name'] ?? '';
        const wanted = readTypes(body['types']);
        if (name === defaultInboxName && wanted !== undefined && wanted !== null) {
          const message = 'the inbox "default" takes every type; make an inbox of another name for some of them';
          throw invalid({ path: '/types', message });
        }
        const change = {
          ...(wanted !== undefined && { types: wanted }),
          ...(body['max_attempts'] !== undefined && { maxAttempts: body['max_attempts'] as number }),
        };
        return json(200, inboxJson(found(await inboxes.change(identity.org, name, change, identity.keyId))));
      },
    }),
    forKeys({
      method: 'DELETE',
      path: '/v1/inboxes/:name',
      docs: inboxesDocs.remove,
      access: 'org:manage',
      bucket: 'read',
      handler: async ({ identity, params }) => {
        if (!(await inboxes.delete(identity.org, params['name'] ?? '', identity.keyId))) throw noInbox();
        return { status: 204, body: null };
      },
    }),
  ];
}

function readTypes(value: unknown): readonly string[] | null | undefined {
  if (value === undefined || value === null) return value;
  const patterns = value as string[];
  checkPatterns(patterns, '/types');
  return [...new Set(patterns)];
}

function found(inbox: InboxInfo | null): InboxInfo {
  if (inbox === null) throw noInbox();
  return inbox;
}

function inboxJson(inbox: InboxInfo) {
  return {
    name: inbox.name,
    types: inbox.types,
    max_attempts: inbox.maxAttempts,
    expired: inbox.expired,
    erased: inbox.erased,
    created_at: formatTime(inbox.createdAtMs),
  };
}

import { Type } from '@sinclair/typebox';
import type { Clock } from '../../clock.js';
import { invalid, Problem } from '../../errors.js';
import { decodeRandomId } from '../../ids.js';
import type { CreatedKey, Key, Keys } from '../../tenancy/keys.js';
import type { KeyScope } from '../../tenancy/scopes.js';
import { scopes } from '../../tenancy/scopes.js';
import { formatTime, parseTime } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { nameSchema, readName } from '../name.js';
import { listQuery, page } from '../paging.js';
import { keyDocs } from '../openapi/tenancy-docs.js';
import { forKeys, json } from '../route.js';

export interface KeyRoutesOptions {
  readonly keys: Keys;
  readonly cursors: CursorSigner;
  readonly clock: Clock;
}

export const graceSecondsMax = 30 * 86_400;

export function keyRoutes({ keys, cursors, clock }: KeyRoutesOptions) {
  return [
    forKeys({
      method: 'POST',
      path: '/v1/keys',
      docs: keyDocs.create,
      showsSecret: true,
      access: 'keys:manage',
      bucket: 'read',
      body: Type.Object(
        {
          name: nameSchema,
          scopes: Type.Optional(
            Type.Array(Type.Union(scopes.map((scope) => Type.Literal(scope))), {
              minItems: 1,
              maxItems: scopes.length,
            }),
          ),
          expires_at: Type.Optional(Type.Union([Type.String({ documented: { format: 'date-time' } }), Type.Null()])),
        },
        { additionalProperties: false },
      ),
      handler: async ({ identity, body }) => {
        const wanted = (body['scopes'] as KeyScope[] | undefined) ?? [...identity.scopes];
        const spec = {
          name: readName(body['name']),
          scopes: scopes.filter((scope) => wanted.includes(scope)),
          expiresAtMs: expiry(body['expires_at'], clock.now()),
        };
        return json(201, createdKeyJson(await keys.create(identity.org, spec, identity)));
      },
    }),
    forKeys({
      method: 'GET',
      path: '/v1/keys',
      docs: keyDocs.list,
      access: 'keys:manage',
      bucket: 'read',
      query: listQuery,
      handler: async ({ identity, query }) =>
        page(query, cursors, ['keys', identity.org], {
          read: (after, limit) => keys.list(identity.org, after, limit),
          placeOf: (key) => key.id,
          render: keyJson,
        }),
    }),
    forKeys({
      method: 'GET',
      path: '/v1/keys/current',
      docs: keyDocs.current,
      access: 'any_key',
      bucket: 'read',
      handler: async ({ identity }) => json(200, keyJson(found(await keys.find(identity.org, identity.keyId)))),
    }),
    forKeys({
      method: 'POST',
      path: '/v1/keys/:id/rotate',
      docs: keyDocs.rotate,
      showsSecret: true,
      access: 'keys:manage',
      bucket: 'read',
      body: Type.Object(
        { grace_seconds: Type.Optional(Type.Integer({ minimum: 0, maximum: graceSecondsMax })) },
        { additionalProperties: false },
      ),
      handler: async ({ identity, params, body }) => {
        const grace = (body['grace_seconds'] as number | undefined) ?? 0;
        const id = keyId(params);
        return json(201, createdKeyJson(found(await keys.rotate(identity.org, id, grace, identity))));
      },
    }),
    forKeys({
      method: 'DELETE',
      path: '/v1/keys/:id',
      docs: keyDocs.remove,
      access: 'keys:manage',
      bucket: 'read',
      handler: async ({ identity, params }) => {
        if (!(await keys.delete(identity.org, keyId(params), identity))) throw noKey();
        return { status: 204, body: null };
      },
    }),
  ];
}

function keyId(params: Readonly<Record<string, string>>): string {
  const id = params['id'] ?? '';
  if (decodeRandomId('key', id) === null) throw noKey();
  return id;
}

function found<K>(key: K | null): K {
  if (key === null) throw noKey();
  return key;
}

function noKey(): Problem {
  return new Problem('not_found', 'There is no such key.');
}

function expiry(value: unknown, nowMs: number): number | null {
  if (typeof value !== 'string') return null;
  const parsed = parseTime(value);
  if ('problem' in parsed) throw invalid({ path: '/expires_at', message: parsed.problem });
  if (parsed.ms <= nowMs) throw invalid({ path: '/expires_at', message: 'must be in the future' });
  return parsed.ms;
}

function keyJson(key: Key) {
  return {
    id: key.id,
    name: key.name,
    prefix: key.prefix,
    scopes: key.scopes,
    created_at: formatTime(key.createdAtMs),
    expires_at: key.expiresAtMs === null ? null : formatTime(key.expiresAtMs),
    last_used_at: key.lastUsedAtMs === null ? null : formatTime(key.lastUsedAtMs),
  };
}

function createdKeyJson(key: CreatedKey) {
  return { ...keyJson(key), key: key.secret };
}

import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import type { LimitMode, OrgChange, Tier } from '../../db/sql/tenancy.js';
import { Problem } from '../../errors.js';
import { decodeOrgId, encodeOrgId } from '../../ids.js';
import type { Org, Orgs } from '../../tenancy/orgs.js';
import { formatTime } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { nameSchema, readName } from '../name.js';
import { listQuery, page } from '../paging.js';
import { orgDocs } from '../openapi/tenancy-docs.js';
import type { Route } from '../route.js';
import { forKeys, json } from '../route.js';

export interface OrgRoutesOptions {
  readonly orgs: Orgs;
  readonly cursors: CursorSigner;
}

const tier = Type.Union(['free', 'pro', 'business', 'enterprise'].map((value) => Type.Literal(value)));
export const rateMax = 1_000_000_000;
const rate = Type.Integer({ minimum: 1, maximum: rateMax });
/** Ten years. */
export const retentionDaysMax = 3_650;

export function orgRoutes({ orgs, cursors }: OrgRoutesOptions) {
  const admin: Route[] = [
    {
      method: 'POST',
      path: '/v1/orgs',
      docs: orgDocs.create,
      showsSecret: true,
      access: 'admin',
      bucket: null,
      body: Type.Object({ name: nameSchema, tier: Type.Optional(tier) }, { additionalProperties: false }),
      handler: async ({ body }) => {
        const created = await orgs.create(readName(body['name']), (body['tier'] as Tier | undefined) ?? 'free');
        return json(201, { ...orgJson(created.org), key: created.key.secret, key_id: created.key.id });
      },
    },
    {
      method: 'GET',
      path: '/v1/orgs',
      docs: orgDocs.list,
      access: 'admin',
      bucket: null,
      query: listQuery,
      handler: ({ query }) =>
        page(query, cursors, ['orgs'], {
          read: (after, limit) => orgs.list(after === '' ? '0' : after, limit),
          placeOf: (org) => org.org,
          render: orgJson,
        }),
    },
    {
      method: 'GET',
      path: '/v1/orgs/:id',
      docs: orgDocs.read,
      access: 'admin',
      bucket: null,
      handler: async ({ params }) => json(200, orgJson(found(await orgs.find(orgNumberOf(params))))),
    },
    {
      method: 'PATCH',
      path: '/v1/orgs/:id',
      docs: orgDocs.change,
      access: 'admin',
      bucket: null,
      body: Type.Object(
        {
          name: optional(nameSchema),
          tier: optional(tier),
          limits: optional(
            Type.Object(
              {
                rate_per_minute: optional(rate),
                burst: optional(rate),
                mode: optional(Type.Union([Type.Literal('enforce'), Type.Literal('shadow')])),
              },
              { additionalProperties: false },
            ),
          ),
          suspended: optional(Type.Boolean()),
        },
        { additionalProperties: false },
      ),
      handler: async ({ params, body }) =>
        json(200, orgJson(found(await orgs.update(orgNumberOf(params), changeOf(body))))),
    },
    {
      method: 'DELETE',
      path: '/v1/orgs/:id',
      docs: orgDocs.remove,
      access: 'admin',
      bucket: null,
      handler: async ({ params }) => {
        found((await orgs.delete(orgNumberOf(params))) ? true : null);
        return { status: 204, body: null };
      },
    },
  ];
  const own = forKeys({
    method: 'GET',
    path: '/v1/org',
    docs: orgDocs.readOwn,
    access: 'any_key',
    bucket: 'read',
    handler: async ({ identity }) => json(200, orgJson(found(await orgs.find(identity.org)))),
  });
  const changeOwn = forKeys({
    method: 'PATCH',
    path: '/v1/org',
    docs: orgDocs.changeOwn,
    access: 'org:manage',
    bucket: 'read',
    body: Type.Object(
      { retention_days: optional(Type.Integer({ minimum: 1, maximum: retentionDaysMax })) },
      { additionalProperties: false },
    ),
    handler: async ({ identity, body }) => {
      const days = body['retention_days'] as number | undefined;
      const change = days === undefined ? {} : { retentionDays: days };
      return json(200, orgJson(found(await orgs.update(identity.org, change, identity.keyId))));
    },
  });
  return { admin, own: [own, changeOwn] };
}

function optional<Schema extends TSchema>(schema: Schema) {
  return Type.Optional(schema);
}

function changeOf(body: Readonly<Record<string, unknown>>): OrgChange {
  const limits = (body['limits'] ?? {}) as { rate_per_minute?: number; burst?: number; mode?: LimitMode };
  const change = {
    name: body['name'] === undefined ? undefined : readName(body['name']),
    tier: body['tier'] as Tier | undefined,
    ratePerMinute: limits.rate_per_minute,
    burst: limits.burst,
    limitMode: limits.mode,
    suspended: body['suspended'] as boolean | undefined,
  };
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

function orgNumberOf(params: Readonly<Record<string, string>>): string {
  return found(decodeOrgId(params['id'] ?? ''));
}

function found<Value>(value: Value | null): Value {
  if (value === null) throw new Problem('not_found', 'There is no such organisation.');
  return value;
}

function orgJson(org: Org) {
  return {
    id: encodeOrgId(org.org),
    name: org.name,
    tier: org.tier,
    limits: { rate_per_minute: org.limits.ratePerMinute, burst: org.limits.burst, mode: org.limits.mode },
    retention_days: org.retentionDays,
    suspended: org.suspended,
    created_at: formatTime(org.createdAtMs),
    usage: { keys: org.keys },
  };
}

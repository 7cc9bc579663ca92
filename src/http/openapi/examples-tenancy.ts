import type { Example } from './example.js';

/** Of organisations and keys. */
export const tenancyExamples: readonly Example[] = [
  {
    operation: 'createOrganisation',
    name: 'a new organisation',
    request: { body: { name: 'acme', tier: 'business' } },
    reply: {
      status: 201,
      body: {
        id: 'org_60GCF2WMCJ',
        name: 'acme',
        tier: 'business',
        limits: { rate_per_minute: 10000, burst: 10000, mode: 'enforce' },
        retention_days: 30,
        suspended: false,
        created_at: '2026-11-22T11:05:10.993Z',
        usage: { keys: 1 },
        key: 'slk_live_Example-Example-Example-Example-Example-key',
        key_id: 'key_3051Q1R3PPPBPXNW5JW5H69VXH',
      },
    },
  },
  {
    operation: 'listOrganisations',
    name: 'the only one',
    request: {},
    reply: {
      status: 200,
      body: {
        data: [
          {
            id: 'org_60GCF2WMCJ',
            name: 'acme',
            tier: 'business',
            limits: { rate_per_minute: 10000, burst: 10000, mode: 'enforce' },
            retention_days: 30,
            suspended: false,
            created_at: '2026-11-22T11:05:10.993Z',
            usage: { keys: 1 },
          },
        ],
        next_cursor: null,
      },
    },
  },
  {
    operation: 'readOrganisation',
    name: 'one',
    request: { params: { id: 'org_60GCF2WMCJ' } },
    reply: {
      status: 200,
      body: {
        id: 'org_60GCF2WMCJ',
        name: 'acme',
        tier: 'business',
        limits: { rate_per_minute: 10000, burst: 10000, mode: 'enforce' },
        retention_days: 30,
        suspended: false,
        created_at: '2026-11-22T11:05:10.993Z',
        usage: { keys: 1 },
      },
    },
  },
  {
    operation: 'changeOrganisation',
    name: 'a higher limit',
    request: { params: { id: 'org_60GCF2WMCJ' }, body: { limits: { rate_per_minute: 20000, burst: 30000 } } },
    reply: {
      status: 200,
      body: {
        id: 'org_60GCF2WMCJ',
        name: 'acme',
        tier: 'business',
        limits: { rate_per_minute: 20000, burst: 30000, mode: 'enforce' },
        retention_days: 30,
        suspended: false,
        created_at: '2026-11-22T11:05:10.993Z',
        usage: { keys: 1 },
      },
    },
  },
  {
    operation: 'readOwnOrganisation',
    name: 'its own',
    request: {},
    reply: {
      status: 200,
      body: {
        id: 'org_60GCF2WMCJ',
        name: 'acme',
        tier: 'business',
        limits: { rate_per_minute: 20000, burst: 30000, mode: 'enforce' },
        retention_days: 30,
        suspended: false,
        created_at: '2026-11-22T11:05:10.993Z',
        usage: { keys: 1 },
      },
    },
  },
  {
    operation: 'changeOwnOrganisation',
    name: 'events are kept for 90 days',
    request: { body: { retention_days: 90 } },
    reply: {
      status: 200,
      body: {
        id: 'org_60GCF2WMCJ',
        name: 'acme',
        tier: 'business',
        limits: { rate_per_minute: 20000, burst: 30000, mode: 'enforce' },
        retention_days: 90,
        suspended: false,
        created_at: '2026-11-22T11:05:10.993Z',
        usage: { keys: 1 },
      },
    },
  },
  {
    operation: 'listKeys',
    name: 'the first key',
    request: {},
    reply: {
      status: 200,
      body: {
        data: [
          {
            id: 'key_3051Q1R3PPPBPXNW5JW5H69VXH',
            name: 'first key',
            prefix: 'slk_live_Exam',
            scopes: [
              'events:write',
              'events:read',
              'inbox:read',
              'inbox:consume',
              'webhooks:manage',
              'keys:manage',
              'org:manage',
            ],
            created_at: '2026-11-22T11:05:10.993Z',
            expires_at: null,
            last_used_at: null,
          },
        ],
        next_cursor: null,
      },
    },
  },
  {
    operation: 'readCurrentKey',
    name: 'the first key',
    request: {},
    reply: {
      status: 200,
      body: {
        id: 'key_3051Q1R3PPPBPXNW5JW5H69VXH',
        name: 'first key',
        prefix: 'slk_live_Exam',
        scopes: [
          'events:write',
          'events:read',
          'inbox:read',
          'inbox:consume',
          'webhooks:manage',
          'keys:manage',
          'org:manage',
        ],
        created_at: '2026-11-22T11:05:10.993Z',
        expires_at: null,
        last_used_at: null,
      },
    },
  },
  {
    operation: 'createKey',
    name: 'a key of a consumer',
    request: {
      body: { name: 'worker', scopes: ['inbox:read', 'inbox:consume'], expires_at: '2099-01-01T00:00:00.000Z' },
    },
    reply: {
      status: 201,
      body: {
        id: 'key_7JBR43KK6JKCDEEQQYF09AG6SP',
        name: 'worker',
        prefix: 'slk_live_Exam',
        scopes: ['inbox:read', 'inbox:consume'],
        created_at: '2026-11-22T11:05:13.063Z',
        expires_at: '2099-01-01T00:00:00.000Z',
        last_used_at: null,
        key: 'slk_live_Example-Example-Example-Example-Example-key',
      },
    },
  },
  {
    operation: 'rotateKey',
    name: 'an hour for the change',
    request: { params: { id: 'key_7JBR43KK6JKCDEEQQYF09AG6SP' }, body: { grace_seconds: 3600 } },
    reply: {
      status: 201,
      body: {
        id: 'key_1AJ3C4TQDAF1WKKVTHRVYB4G93',
        name: 'worker',
        prefix: 'slk_live_Exam',
        scopes: ['inbox:read', 'inbox:consume'],
        created_at: '2026-11-22T11:05:13.185Z',
        expires_at: '2099-01-01T00:00:00.000Z',
        last_used_at: null,
        key: 'slk_live_Example-Example-Example-Example-Example-key',
      },
    },
  },
  {
    operation: 'deleteKey',
    name: 'at once',
    request: { params: { id: 'key_7JBR43KK6JKCDEEQQYF09AG6SP' } },
    reply: { status: 204 },
  },
];

import type { Example } from './example.js';

/** Of events. */
export const eventExamples: readonly Example[] = [
  {
    operation: 'sendEvent',
    name: 'stored',
    request: {
      body: {
        type: 'order.created',
        payload: { order_id: '1001', total: 49.9 },
        dedup_id: 'order-1001',
        subject: 'order/1001',
        occurred_at: '2026-11-21T10:00:00.000Z',
      },
    },
    reply: {
      status: 201,
      body: {
        id: 'evt_R21HWBJHJ8000080000000010M9B',
        type: 'order.created',
        received_at: '2026-11-22T11:05:13.613Z',
        durability: 'fsync',
        duplicate: false,
      },
    },
  },
  {
    operation: 'sendEvent',
    name: 'a repeat',
    request: { body: { type: 'order.created', payload: { order_id: '1001', total: 49.9 }, dedup_id: 'order-1001' } },
    reply: {
      status: 200,
      body: {
        id: 'evt_R21HWBJHJ8000080000000010M9B',
        type: 'order.created',
        received_at: '2026-11-22T11:05:13.613Z',
        durability: 'fsync',
        duplicate: true,
      },
    },
  },
  {
    operation: 'sendEvent',
    name: 'another event with the same dedup id',
    request: { body: { type: 'order.created', payload: { order_id: '1002' }, dedup_id: 'order-1001' } },
    reply: {
      status: 409,
      body: {
        type: '/docs/errors#dedup_mismatch',
        title: 'The dedup id belongs to another event',
        status: 409,
        detail:
          'An event of another type or payload was stored under this dedup_id. Use a new dedup_id for a new event.',
        code: 'dedup_mismatch',
        request_id: '030ac00f-cd08-4b1a-a8e0-56f59253e42a',
      },
    },
  },
  {
    operation: 'sendEvent',
    name: 'no type',
    request: { body: { payload: 1 } },
    reply: {
      status: 422,
      body: {
        type: '/docs/errors#validation_failed',
        title: 'The request is not valid',
        status: 422,
        detail: '/type: is required, for example "user.created"',
        code: 'validation_failed',
        errors: [{ path: '/type', message: 'is required, for example "user.created"' }],
        request_id: 'b323dcb9-383d-4b31-96c7-8c2b4b070d91',
      },
    },
  },
  {
    operation: 'sendEvent',
    name: 'a CloudEvent',
    request: {
      mediaType: 'application/cloudevents+json',
      body: { specversion: '1.0', id: 'A-1', source: '/shop', type: 'order.paid', data: { order_id: '1001' } },
    },
    reply: {
      status: 201,
      body: {
        id: 'evt_R21HWBJHJ8000080000000040M9B',
        type: 'order.paid',
        received_at: '2026-11-22T11:05:14.016Z',
        durability: 'fsync',
        duplicate: false,
      },
    },
  },
  {
    operation: 'sendEvents',
    name: 'a good and a bad one',
    request: {
      body: [
        { type: 'order.packed', payload: { order_id: '1001' } },
        { type: 'sluice.packed', payload: 2 },
      ],
    },
    reply: {
      status: 200,
      body: {
        accepted: 1,
        duplicates: 0,
        rejected: 1,
        results: [
          {
            status: 201,
            id: 'evt_R21HWBJHJ8000080000000050M9B',
            received_at: '2026-11-22T11:05:14.055Z',
            durability: 'fsync',
            duplicate: false,
          },
          {
            status: 422,
            code: 'validation_failed',
            detail: '/type: must not start with "sluice.", which is reserved',
            errors: [{ path: '/type', message: 'must not start with "sluice.", which is reserved' }],
          },
        ],
      },
    },
  },
  {
    operation: 'sendEvents',
    name: 'JSON lines',
    request: {
      mediaType: 'application/x-ndjson',
      body: '{"type": "order.shipped", "payload": {"order_id": "1001"}}\n',
    },
    reply: {
      status: 200,
      body: {
        accepted: 1,
        duplicates: 0,
        rejected: 0,
        results: [
          {
            status: 201,
            id: 'evt_R21HWBJHJ8000080000000060M9B',
            received_at: '2026-11-22T11:05:14.084Z',
            durability: 'fsync',
            duplicate: false,
          },
        ],
      },
    },
  },
  {
    operation: 'sendEvents',
    name: 'CloudEvents',
    request: {
      mediaType: 'application/cloudevents-batch+json',
      body: [{ specversion: '1.0', id: 'A-2', source: '/shop', type: 'order.closed' }],
    },
    reply: {
      status: 200,
      body: {
        accepted: 1,
        duplicates: 0,
        rejected: 0,
        results: [
          {
            status: 201,
            id: 'evt_R21HWBJHJ8000080000000070M9B',
            received_at: '2026-11-22T11:05:14.102Z',
            durability: 'fsync',
            duplicate: false,
          },
        ],
      },
    },
  },
  {
    operation: 'sendEvents',
    name: 'all or nothing',
    request: {
      query: { atomic: 'true' },
      body: [
        { type: 'order.packed', payload: 1 },
        { type: '', payload: 2 },
      ],
    },
    reply: {
      status: 422,
      body: {
        type: '/docs/errors#validation_failed',
        title: 'The request is not valid',
        status: 422,
        detail: 'Nothing was stored: 1 of 2 events cannot be, and the batch is atomic. See results.',
        code: 'validation_failed',
        request_id: '9dac11e5-dc41-4ddc-8477-f4983998d66c',
        results: [
          {
            status: 422,
            code: 'not_stored',
            detail: 'Another event of this atomic batch was refused, so none was stored.',
          },
          {
            status: 422,
            code: 'validation_failed',
            detail: '/type: must have 1 to 255 characters',
            errors: [{ path: '/type', message: 'must have 1 to 255 characters' }],
          },
        ],
      },
    },
  },
  {
    operation: 'readEvent',
    name: 'all fields',
    request: { params: { id: 'evt_R21HWBJHJ8000080000000010M9B' } },
    reply: {
      status: 200,
      body: {
        id: 'evt_R21HWBJHJ8000080000000010M9B',
        type: 'order.created',
        subject: 'order/1001',
        occurred_at: '2026-11-21T10:00:00.000Z',
        received_at: '2026-11-22T11:05:13.613Z',
        attributes: null,
        payload: { order_id: '1001', total: 49.9 },
      },
    },
  },
  {
    operation: 'readEvent',
    name: 'two fields',
    request: { params: { id: 'evt_R21HWBJHJ8000080000000010M9B' }, query: { fields: 'type,payload' } },
    reply: { status: 200, body: { type: 'order.created', payload: { order_id: '1001', total: 49.9 } } },
  },
  {
    operation: 'readEvent',
    name: 'as a CloudEvent',
    request: {
      params: { id: 'evt_R21HWBJHJ8000080000000040M9B' },
      headers: { Accept: 'application/cloudevents+json' },
    },
    reply: {
      status: 200,
      body: { id: 'A-1', source: '/shop', specversion: '1.0', type: 'order.paid', data: { order_id: '1001' } },
      mediaType: 'application/cloudevents+json',
    },
  },
  {
    operation: 'listDeliveries',
    name: 'not received yet',
    request: { params: { id: 'evt_R21HWBJHJ8000080000000010M9B' } },
    reply: {
      status: 200,
      body: {
        data: [
          {
            subscription: 'default',
            kind: 'inbox',
            state: 'pending',
            attempts: 0,
            last_error: null,
            next_attempt_at: null,
          },
        ],
      },
    },
  },
  {
    operation: 'listEvents',
    name: 'by type',
    request: { query: { type: 'order.created', order: 'asc' } },
    reply: {
      status: 200,
      body: {
        data: [
          {
            id: 'evt_R21HWBJHJ8000080000000010M9B',
            type: 'order.created',
            subject: 'order/1001',
            occurred_at: '2026-11-21T10:00:00.000Z',
            received_at: '2026-11-22T11:05:13.613Z',
            attributes: null,
            payload: { order_id: '1001', total: 49.9 },
          },
        ],
        next_cursor: null,
      },
    },
  },
  {
    operation: 'streamEvents',
    name: 'behind an event',
    request: {
      headers: { 'Last-Event-ID': 'evt_R21HWBJHJ8000080000000010M9B' },
      query: { type: 'order.packed', fields: 'type,payload' },
    },
    reply: {
      status: 200,
      body: 'id: evt_R21HWBJHJ8000080000000050M9B\ndata: {"type":"order.packed","payload":{"order_id":"1001"}}\n\n',
      mediaType: 'text/event-stream',
    },
  },
];

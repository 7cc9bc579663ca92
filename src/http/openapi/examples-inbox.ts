import type { Example } from './example.js';

/** Of the inbox `default`. In the inbox `orders` they are the same. */
export const inboxExamples: readonly Example[] = [
  {
    operation: 'readInboxStats',
    name: 'five to do',
    request: {},
    reply: { status: 200, body: { pending: 5, leased: 0, dead: 0, oldest_pending_seconds: 1 } },
  },
  {
    operation: 'receiveEvents',
    name: 'one event, for 30 s',
    request: { body: { max: 1, wait_seconds: 20, lease_seconds: 30 } },
    reply: {
      status: 200,
      body: {
        lease_id: 'lse_60GCF2WMCJJ3TFNZQSRVG6V216',
        lease_expires_at: '2026-11-22T11:05:44.716Z',
        data: [
          {
            id: 'evt_R21HWBJHJ8000080000000010M9B',
            type: 'order.created',
            subject: 'order/1001',
            occurred_at: '2026-11-21T10:00:00.000Z',
            received_at: '2026-11-22T11:05:13.613Z',
            attributes: null,
            payload: { order_id: '1001', total: 49.9 },
            attempt: 1,
          },
        ],
      },
    },
  },
  {
    operation: 'extendLease',
    name: 'another 60 s',
    request: { body: { lease_id: 'lse_60GCF2WMCJJ3TFNZQSRVG6V216', lease_seconds: 60 } },
    reply: {
      status: 200,
      body: { lease_id: 'lse_60GCF2WMCJJ3TFNZQSRVG6V216', lease_expires_at: '2026-11-22T11:06:14.765Z' },
    },
  },
  {
    operation: 'releaseEvents',
    name: 'again in 5 minutes',
    request: { body: { lease_id: 'lse_60GCF2WMCJJ3TFNZQSRVG6V216', delay_seconds: 300 } },
    reply: { status: 200, body: { released: 1 } },
  },
  {
    operation: 'extendLease',
    name: 'of a lease that has ended',
    request: { body: { lease_id: 'lse_60GCF2WMCJJ3TFNZQSRVG6V216', lease_seconds: 60 } },
    reply: {
      status: 409,
      body: {
        type: '/docs/errors#lease_expired',
        title: 'The lease has ended',
        status: 409,
        detail: 'This lease has ended, or everything in it is settled. Receive again.',
        code: 'lease_expired',
        request_id: 'e41b35f4-b857-496e-9ada-ddb195a32c3c',
      },
    },
  },
  {
    operation: 'listInboxEvents',
    name: 'some fields of the first',
    request: { query: { limit: '1', fields: 'id,type' } },
    reply: {
      status: 200,
      body: {
        data: [{ id: 'evt_R21HWBJHJ8000080000000010M9B', type: 'order.created', status: 'pending', attempts: 1 }],
        next_cursor: 'FGkEoTKM09_aFt1P_Ky2RVsxLDIwNzc5XQ',
      },
    },
  },
  {
    operation: 'acknowledgeEvents',
    name: 'two events',
    request: { body: { ids: ['evt_R21HWBJHJ8000080000000010M9B', 'evt_R21HWBJHJ8000080000000040M9B'] } },
    reply: { status: 200, body: { acknowledged: 2, already_acknowledged: 0, unknown: [] } },
  },
  {
    operation: 'acknowledgeEvents',
    name: 'of nothing',
    request: { body: {} },
    reply: {
      status: 422,
      body: {
        type: '/docs/errors#validation_failed',
        title: 'The request is not valid',
        status: 422,
        detail: 'The body must have either ids or lease_id',
        code: 'validation_failed',
        errors: [{ path: '', message: 'must have either ids or lease_id' }],
        request_id: '937243dd-1edb-4565-9eef-b18a3a6e4357',
      },
    },
  },
  {
    operation: 'acknowledgeEvent',
    name: 'one',
    request: { params: { event_id: 'evt_R21HWBJHJ8000080000000050M9B' } },
    reply: { status: 204 },
  },
  {
    operation: 'redriveEvents',
    name: 'all of none',
    request: { body: { all: true } },
    reply: { status: 200, body: { redriven: 0 } },
  },
  {
    operation: 'seekInbox',
    name: 'back to an event',
    request: { body: { to: 'evt_R21HWBJHJ8000080000000060M9B' } },
    reply: { status: 200, body: { to: 'evt_R21HWBJHJ8000080000000060M9B' } },
  },
  {
    operation: 'receiveEvents',
    name: 'only the id',
    request: { query: { fields: 'id' }, body: { max: 1 } },
    reply: {
      status: 200,
      body: {
        lease_id: 'lse_60GCF2WMCJ5QCT28QNXETTDVQ7',
        lease_expires_at: '2026-11-22T11:06:15.350Z',
        data: [{ id: 'evt_R21HWBJHJ8000080000000060M9B', attempt: 1 }],
      },
    },
  },
];

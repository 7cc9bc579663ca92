import type { Example } from './example.js';

/** Of the inboxes themselves. */
export const inboxesExamples: readonly Example[] = [
  {
    operation: 'createInbox',
    name: 'for orders, from the beginning',
    request: { body: { name: 'orders', types: ['order.*'], start: 'beginning', max_attempts: 5 } },
    reply: {
      status: 201,
      body: {
        name: 'orders',
        types: ['order.*'],
        max_attempts: 5,
        expired: 0,
        erased: 0,
        created_at: '2026-11-22T11:05:14.585Z',
      },
    },
  },
  {
    operation: 'createInbox',
    name: 'of a name that is taken',
    request: { body: { name: 'orders' } },
    reply: {
      status: 409,
      body: {
        type: '/docs/errors#name_taken',
        title: 'The name is taken',
        status: 409,
        detail: 'There is an inbox "orders" already.',
        code: 'name_taken',
        request_id: '08f6fe4d-fe79-4417-bb86-d5b836296303',
      },
    },
  },
  {
    operation: 'listAudit',
    name: 'the last change',
    request: { query: { limit: '1' } },
    reply: {
      status: 200,
      body: {
        data: [
          {
            sequence: 8,
            at: '2026-11-22T11:05:14.587Z',
            actor: 'key_3051Q1R3PPPBPXNW5JW5H69VXH',
            action: 'inbox.created',
            target: 'orders',
            details: { types: ['order.*'], max_attempts: 5 },
            previous_hash: '8f069c194e098afd027f4ac0e62b3adb11c8aa794fd49e9dcbdacdeb91ecde6e',
            hash: '6ed1d4e5ca75ab9c9f44e8ca4a6963d79db0c46bd8affe0cf7c0fd8df6bfce61',
          },
        ],
        next_cursor: 'ISa5lKUMDQoO4MdA8OlYUFsiOCJd',
      },
    },
  },
  {
    operation: 'listInboxes',
    name: 'two',
    request: {},
    reply: {
      status: 200,
      body: {
        data: [
          {
            name: 'default',
            types: null,
            max_attempts: 10,
            expired: 0,
            erased: 0,
            created_at: '2026-11-22T11:05:10.993Z',
          },
          {
            name: 'orders',
            types: ['order.*'],
            max_attempts: 5,
            expired: 0,
            erased: 0,
            created_at: '2026-11-22T11:05:14.585Z',
          },
        ],
        next_cursor: null,
      },
    },
  },
  {
    operation: 'readInbox',
    name: 'one',
    request: { params: { name: 'orders' } },
    reply: {
      status: 200,
      body: {
        name: 'orders',
        types: ['order.*'],
        max_attempts: 5,
        expired: 0,
        erased: 0,
        created_at: '2026-11-22T11:05:14.585Z',
      },
    },
  },
  {
    operation: 'changeInbox',
    name: 'more attempts',
    request: { params: { name: 'orders' }, body: { max_attempts: 10 } },
    reply: {
      status: 200,
      body: {
        name: 'orders',
        types: ['order.*'],
        max_attempts: 10,
        expired: 0,
        erased: 0,
        created_at: '2026-11-22T11:05:14.585Z',
      },
    },
  },
];

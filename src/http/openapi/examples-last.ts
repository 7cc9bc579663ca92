import type { Example } from './example.js';

const none = { rows: 0, first_day: null, last_day: null };

/** What comes last. */
export const lastExamples: readonly Example[] = [
  {
    operation: 'deleteInbox',
    name: 'with what is in it',
    request: { params: { name: 'orders' } },
    reply: { status: 204 },
  },
  {
    operation: 'eraseSubject',
    name: 'all about an order',
    request: { params: { subject: 'order%2F1001' } },
    reply: {
      status: 202,
      body: {
        id: 'ers_4GRENRPQ81KY9DR4KGPF8NRBP4',
        status: 'running',
        subject_hash: '5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9',
        requested_at: '2026-11-22T11:05:20.110Z',
        covers_until: '2026-11-22T11:05:20.110Z',
        began_at: null,
        ended_at: null,
        erased: { events: none, leases: none, dead_letters: none },
        kept: { dedup_ids_until: '2026-11-24T00:00:00.000Z' },
        expires_at: null,
      },
    },
  },
  {
    operation: 'readErasure',
    name: 'the certificate',
    request: { params: { id: 'ers_4GRENRPQ81KY9DR4KGPF8NRBP4' } },
    reply: {
      status: 200,
      body: {
        id: 'ers_4GRENRPQ81KY9DR4KGPF8NRBP4',
        status: 'done',
        subject_hash: '5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9',
        requested_at: '2026-11-22T11:05:20.110Z',
        covers_until: '2026-11-22T11:05:20.110Z',
        began_at: '2026-11-22T11:05:20.130Z',
        ended_at: '2026-11-22T11:05:20.150Z',
        erased: {
          events: { rows: 1, first_day: '2026-11-22', last_day: '2026-11-22' },
          leases: none,
          dead_letters: none,
        },
        kept: { dedup_ids_until: '2026-11-24T00:00:00.000Z' },
        expires_at: '2027-11-22T11:05:20.150Z',
      },
    },
  },
  {
    operation: 'deleteOrganisation',
    name: 'for good',
    request: { params: { id: 'org_60GCF2WMCJ' } },
    reply: { status: 204 },
  },
  { operation: 'readHealth', name: 'alive', request: {}, reply: { status: 200, body: { status: 'ok' } } },
  { operation: 'readReadiness', name: 'ready', request: {}, reply: { status: 200, body: { status: 'ready' } } },
];

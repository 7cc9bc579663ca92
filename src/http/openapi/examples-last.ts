import type { Example } from './example.js';

/** What comes last. */
export const lastExamples: readonly Example[] = [
  {
    operation: 'deleteInbox',
    name: 'with what is in it',
    request: { params: { name: 'orders' } },
    reply: { status: 204 },
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

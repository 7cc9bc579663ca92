import type { AuditRow } from '../../audit-chain.js';
import type { Database } from '../../db/database.js';
import { readAudit } from '../../tenancy/audit.js';
import { formatTime } from '../../time-format.js';
import type { CursorSigner } from '../cursor.js';
import { listQuery, page } from '../paging.js';
import { orgDocs } from '../openapi/tenancy-docs.js';
import { forKeys } from '../route.js';

export interface AuditRoutesOptions {
  readonly database: Database;
  readonly cursors: CursorSigner;
}

export function auditRoutes({ database, cursors }: AuditRoutesOptions) {
  return [
    forKeys({
      method: 'GET',
      path: '/v1/audit',
      docs: orgDocs.audit,
      access: 'org:manage',
      bucket: 'read',
      query: listQuery,
      handler: async ({ identity, query }) =>
        page(query, cursors, ['audit', identity.org], {
          read: (after, limit) =>
            readAudit(database, identity.org, after === '' ? Number.MAX_SAFE_INTEGER : Number(after), limit),
          placeOf: ({ sequence }) => String(sequence),
          render: auditJson,
        }),
    }),
  ];
}

function auditJson(row: AuditRow) {
  return {
    sequence: row.sequence,
    at: formatTime(row.atMs),
    actor: row.actor,
    action: row.action,
    target: row.target,
    details: row.details,
    previous_hash: row.previousHash.toString('hex'),
    hash: row.hash.toString('hex'),
  };
}

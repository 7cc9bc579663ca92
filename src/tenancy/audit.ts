import type { AuditRow } from '../audit-chain.js';
import type { Database } from '../db/database.js';
import { listAudit } from '../db/sql/audit.js';

/** The actor of what the admin token does. */
export const adminActor = 'admin';
/** The actor of what the program does of itself. */
export const programActor = 'sluice';

/** Up to `limit` rows of an org's audit log before the one of this number, the newest first. */
export function readAudit(database: Database, org: string, before: number, limit: number): Promise<AuditRow[]> {
  return database.transaction({ role: 'app', org, priority: 'read' }, (tx) => listAudit(tx, org, before, limit));
}

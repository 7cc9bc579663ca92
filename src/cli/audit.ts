/** `sluice audit verify`: recomputes the audit log of every org. */
import { systemClock } from '../clock.js';
import type { AuditInvocation } from '../config.js';
import type { Database } from '../db/database.js';
import { encodeOrgId } from '../ids.js';
import { verifyAudit } from '../tenancy/audit-verify.js';
import { withStoredDatabase } from './open-storage.js';
import { amount, Progress } from './progress.js';
import { Lines } from './output.js';

/** Resolves with the exit code: 1 if a row is wrong, or the logs cannot be read. */
export function runAuditVerify({ config, notices }: AuditInvocation): Promise<0 | 1> {
  return withStoredDatabase(config, notices, verifyDatabase);
}

async function verifyDatabase(database: Database): Promise<void> {
  const lines = new Lines(process.stdout);
  const progress = new Progress(systemClock, process.stderr, 'rows');
  const counts = { rows: 0, orgs: 0, deleted: 0 };
  await verifyAudit(database, {
    onChain: (org, { sequence, hash }, isDeleted) => {
      counts[isDeleted ? 'deleted' : 'orgs']++;
      return lines.write(`${encodeOrgId(org)} ${sequence} ${hash.toString('hex')}${isDeleted ? ' deleted' : ''}`);
    },
    onRows: (rows, orgs) => {
      counts.rows = rows;
      progress.at(rows, () => `org ${orgs + 1}`);
    },
  });
  const { rows, orgs, deleted } = counts;
  progress.end(`Verified ${amount(rows, 'row')} of ${amount(orgs, 'org')} and ${amount(deleted, 'deletion')}.`);
}

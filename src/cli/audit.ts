/** `sluice audit verify`: recomputes the audit log of every org. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../clock.js';
import type { AuditInvocation } from '../config.js';
import type { Database } from '../db/database.js';
import { schemaVersions } from '../db/migrate.js';
import { encodeOrgId } from '../ids.js';
import { verifyAudit } from '../tenancy/audit-verify.js';
import { withDatabase } from './open-storage.js';
import { amount, Progress } from './progress.js';
import { say } from './start.js';

/** Resolves with the exit code: 1 if a row is wrong, or the logs cannot be read. */
export async function runAuditVerify({ config, notices }: AuditInvocation): Promise<0 | 1> {
  // Opening the folder would make a database, and everything in that is in order.
  if (config.databaseUrl === null && !existsSync(join(config.dataDir, 'pg'))) {
    say(
      `There is no database in ${config.dataDir}; name its folder with --data-dir, or its address with --database-url.`,
    );
    return 1;
  }
  return withDatabase(config, notices, ({ database }) => verifyDatabase(database));
}

async function verifyDatabase(database: Database): Promise<void> {
  const { stored, newest } = await schemaVersions(database);
  if (stored !== newest) {
    throw new Error(
      `The database has schema version ${stored}, and this program is made for ${newest}: verify with the version that wrote it.`,
    );
  }
  const progress = new Progress(systemClock, process.stderr, 'rows');
  const counts = { rows: 0, orgs: 0, deleted: 0 };
  await verifyAudit(database, {
    onChain: (org, { sequence, hash }, isDeleted) => {
      counts[isDeleted ? 'deleted' : 'orgs']++;
      return print(`${encodeOrgId(org)} ${sequence} ${hash.toString('hex')}${isDeleted ? ' deleted' : ''}\n`);
    },
    onRows: (rows, orgs) => {
      counts.rows = rows;
      progress.at(rows, () => `org ${orgs + 1}`);
    },
  });
  const { rows, orgs, deleted } = counts;
  progress.end(`Verified ${amount(rows, 'row')} of ${amount(orgs, 'org')} and ${amount(deleted, 'deletion')}.`);
}

/** Resolves when whoever reads standard output has room for more. */
function print(line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (): void => reject(new Error('Standard output was closed before the end.'));
    process.stdout.once('error', failed);
    process.stdout.write(line, (error) => {
      if (error) return failed();
      process.stdout.off('error', failed);
      resolve();
    });
  });
}

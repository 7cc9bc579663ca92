import type { ChainEnd } from '../audit-chain.js';
import { chainBreak, chainStart } from '../audit-chain.js';
import type { Database } from '../db/database.js';
import { walkAudit } from '../db/sql/audit.js';
import type { DeletedOrg } from '../db/sql/deletions.js';
import { listDeletedOrgs } from '../db/sql/deletions.js';
import { findOrg, listOrgs } from '../db/sql/tenancy.js';
import { encodeOrgId } from '../ids.js';

const pageRows = 1_000;
const pageOrgs = 500;

/** A chain that is not as it was written: which org's, and its first row that is wrong. */
export class AuditBroken extends Error {
  override readonly name = 'AuditBroken';
  constructor(org: string, what: string) {
    super(`the audit log of ${encodeOrgId(org)} is not as it was written: ${what}`);
  }
}

export interface VerifyProgress {
  /** Told of each sound chain, by the numbers of the orgs, and of each org that was deleted. */
  readonly onChain: (org: string, end: ChainEnd, isDeleted: boolean) => Promise<void>;
  /** Told of each page: all rows so far. */
  readonly onRows: (rows: number, orgs: number) => void;
}

/**
 * Reads the audit log of every org, page after page, and recomputes each row; then what is left of deleted orgs. Nothing is held open, and
 * changes meanwhile do no harm. Rejects with `AuditBroken` at the first row that is wrong.
 */
export async function verifyAudit(database: Database, progress: VerifyProgress): Promise<void> {
  const done = { rows: 0, orgs: 0 };
  const onRows = (rows: number): void => progress.onRows((done.rows += rows), done.orgs);
  for await (const { org } of pagesOf((after) => listOrgs(database, after, pageOrgs))) {
    const end = await verifyChain(database, org, onRows);
    if (end !== null) await progress.onChain(org, end, false);
    done.orgs++;
  }
  for await (const deleted of pagesOf((after) => listDeletedOrgs(database, after, pageOrgs))) {
    verifyTombstone(deleted);
    await progress.onChain(deleted.org, deleted, true);
    onRows(1);
  }
}

/** Where the chain ends; null if the org was deleted meanwhile. */
async function verifyChain(database: Database, org: string, onRows: (rows: number) => void): Promise<ChainEnd | null> {
  let last = chainStart;
  for (;;) {
    const scope = { role: 'app', org, priority: 'read' } as const;
    const { rows, end } = await database.transaction(scope, (tx) => walkAudit(tx, org, last.sequence, pageRows));
    if (end === null) {
      if ((await findOrg(database, org)) === null) return null;
      throw new AuditBroken(org, 'it has no end on record');
    }
    // Being erased.
    if (end.closed) return null;
    for (const row of rows) {
      const broken = chainBreak(org, last, row);
      if (broken !== null) throw new AuditBroken(org, broken);
      last = row;
    }
    onRows(rows.length);
    if (rows.length === pageRows) continue;
    requireEnd(org, last, end);
    return last;
  }
}

/** What is on record as the end shows rows that were cut off, or put behind it. */
function requireEnd(org: string, last: ChainEnd, end: ChainEnd): void {
  if (last.sequence < end.sequence) {
    throw new AuditBroken(org, `row ${last.sequence + 1} is missing, and all up to row ${end.sequence}`);
  }
  if (last.sequence > end.sequence) throw new AuditBroken(org, `row ${end.sequence + 1} was added behind the end`);
  if (!last.hash.equals(end.hash)) throw new AuditBroken(org, `row ${last.sequence} is not the one that ended it`);
}

function verifyTombstone(deleted: DeletedOrg): void {
  const { org, sequence, previousHash } = deleted;
  const row = { ...deleted, action: 'org.deleted', target: encodeOrgId(org), details: {} };
  const broken = chainBreak(org, { sequence: sequence - 1, hash: previousHash }, row);
  if (broken !== null) throw new AuditBroken(org, `its deletion, ${broken}`);
}

async function* pagesOf<Row extends { readonly org: string }>(
  read: (after: string) => Promise<readonly Row[]>,
): AsyncGenerator<Row> {
  for (let after = '0'; ;) {
    const rows = await read(after);
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < pageOrgs) return;
    after = last.org;
  }
}

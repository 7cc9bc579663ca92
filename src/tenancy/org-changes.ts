import type { AuditDetails, AuditedChange, AuditValue } from '../audit-chain.js';
import type { OrgChange, OrgRow } from '../db/sql/tenancy.js';
import { encodeOrgId } from '../ids.js';

/** What the audit log says of a change of an org: what becomes different, from what to what. Nothing where nothing does. */
export function orgChanges(
  before: OrgRow,
  change: OrgChange,
  by: Pick<AuditedChange, 'atMs' | 'actor'>,
): AuditedChange[] {
  const target = encodeOrgId(before.org);
  const details = differences(before, change);
  const changes: AuditedChange[] = [];
  if (Object.keys(details).length > 0) changes.push({ ...by, action: 'org.changed', target, details });
  if (change.suspended !== undefined && change.suspended !== before.suspended) {
    changes.push({ ...by, action: change.suspended ? 'org.suspended' : 'org.resumed', target, details: {} });
  }
  return changes;
}

/** By the names of the API. A limit of null is that of the tier. */
function differences(before: OrgRow, change: OrgChange): AuditDetails {
  const pairs: readonly [name: string, from: AuditValue, to: AuditValue | undefined][] = [
    ['name', before.name, change.name],
    ['tier', before.tier, change.tier],
    ['limits.rate_per_minute', numberOf(before.rate_per_minute), change.ratePerMinute],
    ['limits.burst', numberOf(before.burst), change.burst],
    ['limits.mode', before.limit_mode, change.limitMode],
    ['retention_days', before.retention_days, change.retentionDays],
  ];
  const different = pairs.flatMap(([name, from, to]) => (to === undefined || to === from ? [] : [{ name, from, to }]));
  return Object.fromEntries(different.map(({ name, from, to }) => [name, { from, to }]));
}

function numberOf(digits: string | null): number | null {
  return digits === null ? null : Number(digits);
}

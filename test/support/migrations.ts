import { readMigrations } from '../../src/db/migrate.js';
import type { Migration } from '../../src/db/migrate.js';

/** The program's own migrations, and behind them planted ones, as `[name, text]`, numbered on. */
export function withPlanted(...planted: readonly (readonly [name: string, text: string])[]): Migration[] {
  const own = readMigrations();
  const newest = own.at(-1)?.version ?? 0;
  const more = planted.map(([name, text], i) => {
    const version = newest + 1 + i;
    return { version, name: `${String(version).padStart(4, '0')}_${name}`, text };
  });
  return [...own, ...more];
}

/** A backfill that gives each org a label, and counts in `touched` how often each was given one. */
export const labelBackfill = `-- sluice: backfill as sluice_system
WITH chunk AS (SELECT org FROM orgs WHERE org > coalesce($1::text, '0')::bigint ORDER BY org LIMIT $2),
done AS (UPDATE orgs SET label = upper(name), touched = touched + 1 FROM chunk WHERE orgs.org = chunk.org RETURNING orgs.org)
SELECT (SELECT max(org)::text FROM chunk) AS after, (SELECT count(*) FROM done) AS rows`;

export const labelColumns = `ALTER TABLE orgs ADD COLUMN label text, ADD COLUMN touched integer NOT NULL DEFAULT 0`;

export const labelIndex = `-- sluice: indexes
-- Orgs by what they are called.
CREATE INDEX CONCURRENTLY orgs_label ON orgs (label)`;

/** `sluice verify`: finds the place of every event in every subscription, and that the counts add up. */
import { systemClock } from '../clock.js';
import type { VerifyInvocation } from '../config.js';
import type { Database } from '../db/database.js';
import { listOrgs } from '../db/sql/tenancy.js';
import { encodeOrgId } from '../ids.js';
import { verifyOrg } from '../subscriptions/verify.js';
import { withStoredDatabase } from './open-storage.js';
import { Lines } from './output.js';
import { amount, Progress } from './progress.js';

const pageOrgs = 500;

/** Resolves with the exit code: 1 if something does not add up, or the log cannot be read. */
export function runVerify({ config, notices }: VerifyInvocation): Promise<0 | 1> {
  return withStoredDatabase(config, notices, verifyDatabase);
}

async function verifyDatabase(database: Database): Promise<void> {
  const lines = new Lines(process.stdout);
  const progress = new Progress(systemClock, process.stderr);
  const counts = { events: 0, orgs: 0, subscriptions: 0 };
  const onEvents = (events: number): void => {
    counts.events += events;
    progress.at(counts.events, () => `org ${counts.orgs + 1}`);
  };
  for (let after = '0'; ;) {
    const page = await listOrgs(database, after, pageOrgs);
    for (const { org } of page) {
      const id = encodeOrgId(org);
      const accounts = await verifyOrg(database, org, id, systemClock.now(), onEvents);
      for (const account of accounts ?? []) await lines.json({ org: id, ...account });
      counts.orgs++;
      counts.subscriptions += accounts?.length ?? 0;
    }
    const last = page.at(-1);
    if (last === undefined || page.length < pageOrgs) break;
    after = last.org;
  }
  const { events, orgs, subscriptions } = counts;
  progress.end(
    `Every event has one place: verified ${amount(events, 'event')} of ${amount(orgs, 'org')} in ${amount(subscriptions, 'subscription')}.`,
  );
}

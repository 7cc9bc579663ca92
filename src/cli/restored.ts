/** `sluice restored`: said after a restore that the program cannot see by itself, so that no event id is given out a second time. */
import type { RestoredInvocation } from '../config.js';
import { requireUsableSchema } from '../db/migrate.js';
import { raiseAllEpochs } from '../db/sql/epochs.js';
import { hasNoDatabase, withDatabase } from './open-storage.js';
import { amount } from './progress.js';
import { say } from './start.js';

/** Resolves with the exit code. May be repeated, and run beside nodes that are running. */
export async function runRestored({ config, notices }: RestoredInvocation): Promise<0 | 1> {
  if (hasNoDatabase(config)) {
    say(
      `There is no database in ${config.dataDir}; name its folder with --data-dir, or its address with --database-url.`,
    );
    return 1;
  }
  return withDatabase(config, notices, async ({ database }) => {
    await requireUsableSchema(database);
    const orgs = await raiseAllEpochs(database);
    say(`The next event of each of ${amount(orgs, 'org')} begins a new epoch: no event id is given out a second time.`);
  });
}

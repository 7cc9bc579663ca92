/** `sluice migrate`: brings the schema up to date, says what that would be, or what an operator prepares for it by hand. */
import { systemClock } from '../clock.js';
import type { Config, MigrateInvocation } from '../config.js';
import { migrate, planMigration, schemaVersions } from '../db/migrate.js';
import { rolesScript } from '../db/sql/roles.js';
import { hasNoDatabase, withDatabase } from './open-storage.js';
import { Lines } from './output.js';
import { amount } from './progress.js';
import { say } from './start.js';

/** Resolves with the exit code: 1 if the schema could not be brought up to date, or not be looked at. */
export async function runMigrate({ config, notices, dryRun, printRoles }: MigrateInvocation): Promise<0 | 1> {
  const lines = new Lines(process.stdout);
  if (printRoles) {
    const { login, database } = namesOf(config);
    await lines.write(rolesScript(login, database).trimEnd());
    return 0;
  }
  if (dryRun && hasNoDatabase(config)) {
    say(`There is no database in ${config.dataDir}; a start makes one, with all of the schema.`);
    return 1;
  }
  return withDatabase(config, notices, async ({ database }) => {
    if (dryRun) {
      const { version, sentences } = await planMigration(database);
      for (const sentence of sentences) await lines.write(sentence);
      say(
        `The schema is at version ${version}: ${amount(sentences.length, 'migration')} to apply. Nothing was changed.`,
      );
      return;
    }
    const beganAtMs = systemClock.monotonic();
    const applied = await migrate(database, say);
    const { stored } = await schemaVersions(database);
    const seconds = ((systemClock.monotonic() - beganAtMs) / 1000).toFixed(1);
    say(`The schema is at version ${stored}: ${amount(applied.length, 'migration')} applied in ${seconds} s.`);
  });
}

/** Who connects to what, by DATABASE_URL; the usual names where it does not say. */
function namesOf({ databaseUrl }: Config): { readonly login: string; readonly database: string } {
  // Not by `new URL`, which takes no address with several hosts.
  const [, login = '', database = ''] =
    /^\w+:\/\/(?:([^:/@]*)(?::[^/]*)?@)?[^/]*(?:\/([^?]*))?/.exec(databaseUrl ?? '') ?? [];
  return { login: decodeURIComponent(login) || 'sluice', database: decodeURIComponent(database) || 'sluice' };
}

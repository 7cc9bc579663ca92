/** What the commands that work on a database without a server have in common: the database, and how their failures are told. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openDatabase } from '../app.js';
import { systemClock } from '../clock.js';
import type { Config } from '../config.js';
import type { Database } from '../db/database.js';
import type { EmbeddedDatabase } from '../db/embedded.js';
import { schemaVersions } from '../db/migrate.js';
import type { Logger } from '../log.js';
import { createLogger, flushed } from '../log.js';
import { failureSentence } from './failure.js';
import { say } from './start.js';

export interface OpenStorage {
  readonly database: Database;
  /** The same database, if it is the embedded one. */
  readonly embedded: EmbeddedDatabase | null;
  readonly log: Logger;
}

/** As `withDatabase`, for commands that only look: refused where there is no database yet, or one of another version. */
export async function withStoredDatabase(
  config: Config,
  notices: readonly string[],
  work: (database: Database) => Promise<void>,
): Promise<0 | 1> {
  if (hasNoDatabase(config)) {
    say(
      `There is no database in ${config.dataDir}; name its folder with --data-dir, or its address with --database-url.`,
    );
    return 1;
  }
  return withDatabase(config, notices, async ({ database }) => {
    const { stored, newest } = await schemaVersions(database);
    if (stored !== newest) {
      throw new Error(
        `The database has schema version ${stored}, and this program is made for ${newest}: verify with the version that wrote it.`,
      );
    }
    await work(database);
  });
}

/** Opening the folder would make a database, and everything in that is in order. Not known of a server. */
export function hasNoDatabase({ databaseUrl, dataDir }: Config): boolean {
  return databaseUrl === null && !existsSync(join(dataDir, 'pg'));
}

/** Runs `work` on the database of the settings and closes it. Returns the exit code: 0, or 1 after a failure, told in one sentence. */
export async function withDatabase(
  config: Config,
  notices: readonly string[],
  work: (open: OpenStorage) => Promise<void>,
): Promise<0 | 1> {
  const log = createLogger(config.logLevel);
  for (const notice of notices) say(notice);
  try {
    const { database, embedded } = await openDatabase(config, log, say, systemClock, () => {});
    try {
      await work({ database, embedded, log });
    } finally {
      await database.close();
    }
    return 0;
  } catch (error) {
    log.debug({ err: error }, 'the command failed');
    say(failureSentence(error, config));
    return 1;
  } finally {
    await flushed(log);
  }
}

/** `sluice export`: everything of a database as one file, or on standard output. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../clock.js';
import type { ExportInvocation } from '../config.js';
import type { Database } from '../db/database.js';
import { schemaVersions } from '../db/migrate.js';
import { hasUnfinishedImport } from '../db/sql/imports.js';
import { ChunkWriter } from '../transfer/chunk-writer.js';
import { exportOrgs } from '../transfer/export.js';
import type { ExportProgress } from '../transfer/export.js';
import {
  appendTo,
  createExportFile,
  reopenExportFile,
  requireSameSource,
  syncExport,
  truncateExport,
} from '../transfer/export-file.js';
import { withDatabase } from './open-storage.js';
import { amount, Progress } from './progress.js';
import { say } from './start.js';

/** Resolves with the exit code. Standard output carries the export, if it goes there, and nothing else. */
export async function runExport(invocation: ExportInvocation, isTerminal = process.stdout.isTTY): Promise<0 | 1 | 2> {
  const { config, file, notices } = invocation;
  if (file === null && isTerminal) {
    say(
      'An export is not for a terminal: name a file, as in `sluice export backup.ndjson.gz`, or send it into a pipe.',
    );
    return 2;
  }
  // Opening the folder would make a database, and its export would be empty.
  if (config.databaseUrl === null && !existsSync(join(config.dataDir, 'pg'))) {
    say(
      `There is no database in ${config.dataDir}; name its folder with --data-dir, or its address with --database-url.`,
    );
    return 1;
  }
  return withDatabase(config, notices, ({ database }) => exportDatabase(database, invocation));
}

async function exportDatabase(database: Database, { file, gzip, resume }: ExportInvocation): Promise<void> {
  const { stored, newest } = await schemaVersions(database);
  if (stored !== newest) {
    throw new Error(
      `The database has schema version ${stored}, and this program is made for ${newest}: ` +
        (stored < newest
          ? 'start it on that database once, or export with the version that wrote it.'
          : 'use a newer Sluice.'),
    );
  }
  if (await hasUnfinishedImport(database)) {
    say(
      'An import into this database has not come to its end; the org that it was at is in this export as it is: incomplete and suspended.',
    );
  }
  if (file === null) {
    const progress = new Progress(systemClock, process.stderr);
    const writer = new ChunkWriter(writeToStandardOutput, gzip);
    await exportOrgs(database, writer, newest, tell(progress));
    progress.end(`Exported ${contentsOf(writer)}.`);
    return;
  }
  await exportToFile(database, file, { gzip, resume, schemaVersion: newest });
}

async function exportToFile(
  database: Database,
  path: string,
  { gzip, resume, schemaVersion }: { readonly gzip: boolean; readonly resume: boolean; readonly schemaVersion: number },
): Promise<void> {
  const file = resume ? await reopenExportFile(path, gzip, schemaVersion) : await createExportFile(path, gzip);
  try {
    if (file.isComplete) {
      say(`${path} is complete: nothing to do.`);
      return;
    }
    await requireSameSource(database, file);
    await truncateExport(file);
    const progress = new Progress(systemClock, process.stderr);
    const writer = new ChunkWriter(appendTo(file), file.gzip, file.state);
    await exportOrgs(database, writer, schemaVersion, tell(progress));
    await syncExport(file, path);
    progress.end(`Exported ${contentsOf(writer)} to ${path}.`);
  } finally {
    await file.handle.close();
  }
}

function contentsOf(writer: ChunkWriter): string {
  const { orgs, events } = writer.outline.totals;
  return `${amount(orgs, 'org')} with ${amount(events, 'event')}`;
}

function tell(progress: Progress): (at: ExportProgress) => void {
  return ({ orgs, events, positions, total }) =>
    progress.at(events, () => {
      const percent = total.positions === 0 ? 100 : Math.min(100, Math.floor((positions * 100) / total.positions));
      return `${percent} %, org ${Math.min(orgs + 1, total.orgs)} of ${total.orgs}`;
    });
}

/** Resolves when the reader of the pipe has room. */
function writeToStandardOutput(bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    // Besides calling back, a failed write is an 'error' event, which without a listener would end the process.
    const failed = (): void => reject(new Error('Standard output was closed before the end of the export.'));
    process.stdout.once('error', failed);
    process.stdout.write(bytes, (error) => {
      if (error) return failed();
      process.stdout.off('error', failed);
      resolve();
    });
  });
}

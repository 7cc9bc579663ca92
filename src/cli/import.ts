/** `sluice import`: the orgs of an export into a database that has none of them. */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { systemClock } from '../clock.js';
import type { ImportInvocation } from '../config.js';
import { EmbeddedMaintenance } from '../db/embedded-maintenance.js';
import type { EmbeddedDatabase } from '../db/embedded.js';
import { migrate, schemaVersions } from '../db/migrate.js';
import type { Logger } from '../log.js';
import { firstKeyShown } from '../tenancy/first-start.js';
import { plainText } from '../transfer/export-file.js';
import { checkImport, importOrgs } from '../transfer/import.js';
import type { ImportOptions, ImportResult } from '../transfer/import.js';
import { withDatabase } from './open-storage.js';
import type { OpenStorage } from './open-storage.js';
import { amount, Progress } from './progress.js';
import { say } from './start.js';

/** Resolves with the exit code. */
export async function runImport(invocation: ImportInvocation, isTerminal = process.stdin.isTTY): Promise<0 | 1 | 2> {
  const { config, file, notices } = invocation;
  if (file === null && isTerminal) {
    say(
      'There is no export on standard input: name its file, as in `sluice import backup.ndjson.gz`, or send it in by a pipe.',
    );
    return 2;
  }
  let handle: FileHandle | null = null;
  try {
    handle = file === null ? null : await open(file, 'r');
  } catch (error) {
    say(`${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
    return 1;
  }
  try {
    return await withDatabase(config, notices, async (storage) => {
      const maintenance = storage.embedded && maintenanceOf(storage.embedded, storage.log);
      await maintenance?.start();
      try {
        await importInto(storage, invocation, handle);
      } finally {
        await maintenance?.stop();
      }
    });
  } finally {
    await handle?.close();
  }
}

async function importInto(
  { database, embedded }: OpenStorage,
  { config }: ImportInvocation,
  handle: FileHandle | null,
): Promise<void> {
  await migrate(database, say);
  const { newest } = await schemaVersions(database);
  const isDiskShort = (): boolean => embedded?.space.isShort === true;
  // Else the next start would take an only org named as the first one is for its own, and replace a key that was not used yet.
  const beforeFirstOrg =
    database.engine === 'embedded' ? { beforeFirstOrg: () => firstKeyShown(config.dataDir) } : undefined;
  const options: ImportOptions = { schemaVersion: newest, nowMs, onProgress: () => {}, isDiskShort, ...beforeFirstOrg };
  // What can be read twice is looked through before anything is changed.
  const checked = handle === null ? null : await checkImport(database, plainText(handle), options);
  const progress = new Progress(systemClock, process.stderr);
  const bytes = handle === null ? (process.stdin as AsyncIterable<Buffer>) : plainText(handle);
  const result =
    checked?.outcome === 'nothing_to_do'
      ? checked
      : await importOrgs(database, bytes, { ...options, onProgress: tell(progress, checked) });
  progress.end(
    result.outcome === 'nothing_to_do'
      ? `All ${result.orgs} orgs of this export were imported before: nothing to do.`
      : `Imported ${amount(result.orgs, 'org')} with ${amount(result.events, 'event')}.`,
  );
}

const nowMs = (): number => systemClock.now();

function tell(progress: Progress, all: ImportResult | null): ImportOptions['onProgress'] {
  return ({ orgs, events, textBytes }) =>
    progress.at(events, () => {
      if (all === null) return `org ${orgs + 1}`;
      const percent = Math.floor((textBytes * 100) / Math.max(1, all.textBytes));
      return `${percent} %, org ${Math.min(orgs + 1, all.orgs)} of ${all.orgs}`;
    });
}

/** A large import is as much work for the engine as a busy server. */
function maintenanceOf(engine: EmbeddedDatabase, log: Logger): EmbeddedMaintenance {
  return new EmbeddedMaintenance({
    engine,
    clock: systemClock,
    onDone: () => {},
    onFailure: (err) => log.warn({ err }, 'maintenance of the embedded engine failed and will be tried again'),
    onLarge: (bytes) => log.warn({ bytes }, 'the embedded database is near the size it is not meant for'),
  });
}

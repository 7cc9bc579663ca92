import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../clock.js';
import { archiveKey, archivePath, fits, pack } from './embedded-archive.js';
import { openEmbedded } from './embedded.js';
import { migrate } from './migrate.js';
import { forgetSecrets } from './sql/secrets.js';

/** Makes the prepared cluster, unless there is one for this build: seconds if so, else milliseconds. Whoever reads it meanwhile sees the old one. */
export async function makeArchive(archive: string = archivePath): Promise<void> {
  const key = await archiveKey();
  if (await fits(archive, key)) return;
  const dataDir = await mkdtemp(join(tmpdir(), 'sluice-cluster-'));
  const draft = `${archive}.${process.pid}`;
  try {
    await makeCluster(dataDir);
    await writeFile(draft, await pack(join(dataDir, 'pg'), key));
    await rename(draft, archive);
  } finally {
    await Promise.all([dataDir, draft].map((path) => rm(path, { recursive: true, force: true })));
  }
}

async function makeCluster(dataDir: string): Promise<void> {
  const said: string[] = [];
  try {
    const database = await openEmbedded({
      dataDir,
      clock: systemClock,
      onLog: (line) => void said.push(line),
      onLockLost: (reason) => void said.push(reason),
    });
    try {
      await migrate(database, () => {});
      await forgetSecrets(database);
    } finally {
      await database.close();
    }
  } catch (cause) {
    throw new Error(`the database engine made no cluster: ${said.slice(-5).join(' ')}`, { cause });
  }
}

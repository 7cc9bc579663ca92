import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { newLog, openLog } from '../support/log.js';
import { Inspector } from '../support/power-loss/inspector.js';
import { Random } from '../support/power-loss/random.js';
import { Ledger } from '../support/power-loss/told.js';
import type { Outcome, Start } from '../support/power-loss/trial.js';
import { losePowerDuringWork } from '../support/power-loss/trial.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

/**
 * A loss of power, simulated: a process works on the embedded engine while everything that it does to its files is written down; then a folder
 * is made as a disk may have it that lost its power at some moment (`support/power-loss/disk.ts` says what that covers), and is opened.
 */
const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);
const lossesMax = isSoak ? 200 : 15;
/** So many losses are tried of what one process did. The next starts from what one of them left, so recoveries are interrupted as well. */
const lossesPerProcess = 5;
const steps = isSoak ? 120 : 32;
/** An engine that breaks its promise has to be found out within so many losses. */
const lossesOfBroken = 6;

let storage: TestStorage;
let orgs: string[];
let folder: string;
let keep = false;
const inspector = new Inspector();

before(async () => {
  const made = await createStorage('embedded');
  assert.ok(made !== null);
  storage = made;
  const database = await openLog(storage);
  orgs = await Promise.all([1, 2, 3].map(() => newLog(database, Date.now())));
  await database.close();
  folder = await mkdtemp(join(tmpdir(), 'sluice-power-loss-'));
});
after(async () => {
  inspector.close();
  await storage.remove();
  await stopServers();
  if (!keep) await rm(folder, { recursive: true, force: true });
});

function firstStart(): Start {
  return { base: join(storage.config.dataDir, 'pg'), ledger: new Ledger() };
}

it(`keeps every acknowledged event, and all tables and indexes whole, over ${lossesMax} losses of power`, async (t) => {
  t.diagnostic(`SLUICE_TEST_SEED=${seed}`);
  const random = new Random(seed);
  let start = firstStart();
  let acknowledged = 0;
  for (let losses = 0; losses < lossesMax; losses += lossesPerProcess) {
    const at = join(folder, String(losses));
    const outcome: Outcome = await losePowerDuringWork({
      start,
      folder: at,
      random,
      losses: lossesPerProcess,
      steps,
      orgs,
      inspector,
    });
    for (const loss of outcome.losses) {
      acknowledged += loss.acknowledged;
      if (loss.flaws.length === 0) continue;
      keep = true;
      assert.fail(
        `after a loss of power with SLUICE_TEST_SEED=${seed}, kept in ${at}:\n${loss.report.slice(0, 20_000)}`,
      );
    }
    if (start.base.startsWith(folder)) await rm(join(start.base, '..'), { recursive: true });
    await rm(join(at, 'work'), { recursive: true });
    start = outcome.next;
  }
  t.diagnostic(`${acknowledged} acknowledged events looked for`);
  assert.ok(acknowledged > lossesMax * 20, 'hardly an event was acknowledged');
});

describe('the same check fails', () => {
  for (const without of ['the log is synced by fsync', 'files are synced']) {
    it(`unless ${without}`, async (t) => {
      const at = join(folder, without);
      const random = new Random(seed);
      const { losses } = await losePowerDuringWork({
        start: firstStart(),
        folder: at,
        random,
        losses: lossesOfBroken,
        steps,
        orgs,
        without,
        inspector,
      });
      const found = losses.filter(({ flaws }) => flaws.length > 0);
      t.diagnostic(`${found.length} of ${losses.length} losses: ${found[0]?.flaws[0]}`);
      assert.ok(found.length > 0, `an engine without it kept its promises, with SLUICE_TEST_SEED=${seed}`);
      await rm(at, { recursive: true });
    });
  }
});

/**
 * A migrator with the planted backfill, which kills itself like `kill -9` in its N-th chunk: `update`, when the rows are changed and nothing is
 * committed, or `save`, when its place is noted as well. Arguments: the URL, which of the two, N.
 */
import { systemClock } from '../../src/clock.js';
import { migrate } from '../../src/db/migrate.js';
import { openPostgres } from '../../src/db/postgres.js';
import { intercept } from '../support/log.js';
import { labelBackfill, labelColumns, withPlanted } from '../support/migrations.js';

const [, , url = '', moment = '', at = ''] = process.argv;
const fatal = moment === 'update' ? /^migrate_\d{4}_backfill$/ : /^migrate_backfill_save$/;
let chunks = 0;

const database = intercept(
  await openPostgres({ url, clock: systemClock, onLog: () => {} }),
  async (statement, values, real) => {
    const answer = await real(statement, values);
    if (fatal.test(statement.name) && ++chunks === Number(at)) process.kill(process.pid, 'SIGKILL');
    return answer;
  },
);
const planted = withPlanted(['columns', labelColumns], ['backfill', labelBackfill]);
await migrate(database, () => {}, planted, { chunkRows: 2, chunkPauseMs: 0 });

import { systemClock } from '../clock.js';
import type { Clock } from '../clock.js';
import type { Database, Transaction } from './database.js';
import { StorageError } from './database.js';
import { locksOf, stepOf } from './migration-text.js';
import type { IndexStatement, Migration } from './migration-text.js';
import {
  backfillState,
  dropInvalidIndex,
  indexState,
  limitStep,
  oldestHolder,
  outsideTransaction,
  recordMigration,
  runChunk,
  saveBackfill,
  storedSchema,
  storedSchemaIn,
  tryMigrationLock,
} from './sql/migrations.js';
import type { BackfillState } from './sql/migrations.js';

export interface MigrateOptions {
  readonly clock: Clock;
  /** From 0 to 1, to spread the pauses between tries. */
  readonly random: () => number;
  /** Of a step that finds its table locked, or another migrator at work. */
  readonly triesMax: number;
  /** Rows that a backfill takes in one transaction. */
  readonly chunkRows: number;
  /** Between two of its transactions, so that others, and autovacuum, come to their turns. */
  readonly chunkPauseMs: number;
}

const defaults: MigrateOptions = {
  clock: systemClock,
  random: Math.random,
  triesMax: 40,
  chunkRows: 1_000,
  chunkPauseMs: 20,
};

/**
 * Whoever wants a table for which an ALTER TABLE waits queues behind it. Shorter than the 1 s after which the program's own statements give up: so a
 * migration that has to wait costs requests time, and fails none.
 */
const lockMsMax = 800;
const statementMsMax = 12_000;
const firstPauseMs = 250;
const pauseMsMax = 5_000;
const tellMs = 5_000;

/** Applies one migration, unless others have by the time it can be. Returns whether this call completed it. */
export async function applyMigration(
  database: Database,
  migration: Migration,
  onProgress: (text: string) => void,
  options: Partial<MigrateOptions>,
): Promise<boolean> {
  const migrator = new Migrator(database, migration, onProgress, { ...defaults, ...options });
  const step = stepOf(migration);
  onProgress(`applying migration ${migration.name}`);
  if (step.kind === 'transaction') return migrator.complete((tx) => tx.script(migration.text));
  if (step.kind === 'backfill') return migrator.backfill(step);
  for (const statement of step.statements) await migrator.index(statement);
  return migrator.complete(async () => {});
}

class Migrator {
  constructor(
    private readonly database: Database,
    private readonly migration: Migration,
    private readonly onProgress: (text: string) => void,
    private readonly options: MigrateOptions,
  ) {}

  async complete(work: (tx: Transaction) => Promise<void>): Promise<boolean> {
    return (await this.#step(work, () => true)) !== null;
  }

  /** Builds or drops one index. What is left of a build that was cut is dropped, and built again. */
  async index({ action, index, table, text }: IndexStatement): Promise<void> {
    const { version, name } = this.migration;
    await this.#tried(async () => {
      if ((await storedSchema(this.database)).version >= version) return;
      const state = await indexState(this.database, index);
      if (state === (action === 'create' ? 'valid' : 'absent')) return;
      if (state === 'invalid' && table !== null && (await dropInvalidIndex(this.database, { index, table }, lockMsMax)))
        this.onProgress(`${name}: dropped ${index}, which an earlier build left incomplete`);
      this.onProgress(`${name}: ${action === 'create' ? 'building' : 'dropping'} the index ${index}`);
      await outsideTransaction(this.database, `migrate_${index}`, text);
    });
  }

  /** How far it has come moves in the transaction of each chunk, so that no row is changed twice and none left out, whenever it is ended. */
  async backfill({ role, statement: text }: { role: string | null; statement: string }): Promise<boolean> {
    const { clock, chunkRows, chunkPauseMs } = this.options;
    const { version, name } = this.migration;
    const chunk = async (tx: Transaction): Promise<BackfillState> => {
      const before = await backfillState(tx, version);
      const { after, rows } = await runChunk(tx, { name: `migrate_${name}`, text, role }, before.after, chunkRows);
      if (after !== null && after === before.after) throw new Error(`migration ${name} does not come forward`);
      const state = { after, rows: before.rows + rows };
      await saveBackfill(tx, version, state);
      return state;
    };
    for (let toldAtMs = clock.monotonic(); ;) {
      const state = await this.#step(chunk, ({ after }) => after === null);
      if (state === null) return false;
      if (state.after === null) {
        this.onProgress(`${name}: ${state.rows} rows changed`);
        return true;
      }
      if (clock.monotonic() - toldAtMs >= tellMs) {
        toldAtMs = clock.monotonic();
        this.onProgress(`${name}: ${state.rows} rows so far`);
      }
      await this.#pause(chunkPauseMs);
    }
  }

  /**
   * One transaction as the only migrator. If the migration is complete after it, that is recorded in it. Resolves with what `work` returned; null if
   * the migration was complete before.
   */
  #step<T>(work: (tx: Transaction) => Promise<T>, isComplete: (done: T) => boolean): Promise<T | null> {
    const { version, name } = this.migration;
    return this.#tried(() =>
      this.database.transaction({ role: 'owner' }, async (tx) => {
        await limitStep(tx, lockMsMax, statementMsMax);
        if (!(await tryMigrationLock(tx))) throw new AnotherMigrates();
        if ((await storedSchemaIn(tx)).version >= version) return null;
        const done = await work(tx);
        if (isComplete(done)) await recordMigration(tx, version, name);
        return done;
      }),
    );
  }

  /** Repeats what fails because of others, with growing pauses, up to `triesMax` times. */
  async #tried<T>(work: () => Promise<T>): Promise<T> {
    const { triesMax, random } = this.options;
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        const reason = reasonToWait(error);
        if (reason === null) throw error;
        const why = (isLocked(error) ? await this.#holder() : null) ?? reason;
        if (tries >= triesMax) throw gaveUp(this.migration, tries, why, error);
        const pauseMs = Math.min(firstPauseMs * 2 ** (tries - 1), pauseMsMax) * (0.5 + random() / 2);
        const when = `try ${tries + 1} of ${triesMax} in ${(pauseMs / 1000).toFixed(1)} s`;
        this.onProgress(`${this.migration.name}: ${why}; ${when}`);
        await this.#pause(pauseMs);
      }
    }
  }

  /** Only to tell: who is in the way may be gone by now, and asking may fail. */
  async #holder(): Promise<string | null> {
    const step = stepOf(this.migration);
    const indexed = step.kind === 'indexes' ? step.statements.flatMap(({ table }) => table ?? []) : [];
    const locked = locksOf(this.migration.text).map(({ table }) => table);
    try {
      return await oldestHolder(this.database, [...indexed, ...locked]);
    } catch {
      return null;
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.options.clock.after(ms, resolve);
    });
  }
}

class AnotherMigrates extends Error {
  override readonly name = 'AnotherMigrates';
}

function gaveUp({ name }: Migration, tries: number, why: string, cause: unknown): StorageError {
  const sqlstate = cause instanceof StorageError ? cause.sqlstate : undefined;
  const message = `migration ${name} gave up after ${tries} tries, the last because ${why}; run again, it goes on where it was`;
  return new StorageError('sql', message, { sqlstate, cause });
}

function isLocked(error: unknown): boolean {
  return error instanceof StorageError && error.sqlstate === '55P03';
}

/** What passes by itself; null for all other failures. */
function reasonToWait(error: unknown): string | null {
  if (error instanceof AnotherMigrates) return 'another process is migrating';
  if (isLocked(error)) return 'somebody else has locked the table';
  if (!(error instanceof StorageError)) return null;
  switch (error.sqlstate) {
    case '40P01':
      return 'a deadlock with somebody else';
    case '42P07':
      return 'another process has begun the same';
    default:
      return null;
  }
}

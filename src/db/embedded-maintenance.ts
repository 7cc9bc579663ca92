import type { Clock } from '../clock.js';
import type { Service } from '../lifecycle.js';
import { Rest } from '../rest.js';
import * as maintenance from './sql/maintenance.js';

export type MaintenanceTask = 'checkpoint' | 'vacuum' | 'freeze' | 'measure';

/** What maintenance needs of the engine. */
export interface Maintainable {
  /** One statement outside of any transaction, as the owner. `onDone` is told how long nobody else was served for it. */
  maintain<Row>(text: string, onDone?: (seconds: number) => void): Promise<Row[]>;
  /** File syncs so far: they stand still while nobody writes. */
  readonly fsyncs: number;
}

export interface MaintenanceOptions {
  readonly engine: Maintainable;
  readonly clock: Clock;
  /** Told of every task that did something. Nobody else was served meanwhile. */
  readonly onDone: (task: MaintenanceTask, seconds: number) => void;
  readonly onFailure: (error: unknown) => void;
  /** Told once a day of a database that has grown near the size which the engine is not meant for. */
  readonly onLarge: (bytes: number) => void;
  /** Log since the last checkpoint that asks for the next. Default 6 MiB: few pages to write, so that nobody waits long. */
  readonly walBytesMax?: number;
  /** Dead rows of a table that ask for a vacuum. Default 2,000: few enough for it to take milliseconds. */
  readonly deadRowsMin?: number;
  /** Age of a table, in transactions, that asks for freezing. Default 10 million, of the 2,100 million which can be told apart. */
  readonly freezeAgeMin?: number;
}

const tickMs = 500;
/** After each task others are served for so many times as long as it took: a freezing and a checkpoint right behind it would be one wait for them. */
const restFactor = 10;
/** Under a load that makes long tasks of them, the log grows the more, and the checkpoint with it, the longer it waits. */
const restMsMax = 100;
/** Of all rests at one look: when every table has to be frozen, the checkpoint is not to wait for a hundred of them. */
const restsMsMax = 300;
/**
 * A checkpoint takes 35 ms with 24 MiB, and 10 to 20 with 6 (20 to 30 where 10,000 orgs send: their heads are on more pages). Single events are as many as before,
 * from one org or from 10,000; batches 8 % fewer.
 */
const walBytesMaxDefault = 6 * 1024 * 1024;
/** When nobody writes, less than that asks for no checkpoint; with more, the next start would have to recover. */
const quietWalBytesMin = 1024 * 1024;
const vacuumEveryMs = 10_000;
const deadRowsMinDefault = 2_000;
const freezeEveryMs = 86_400_000;
const measureEveryMs = 60_000;
const freezeAgeMinDefault = 10_000_000;
/** New pages, of 8 KiB, that ask for freezing: 1,250 of them took 8 to 17 ms, 512 about 9. */
const freezePagesMin = 256;
const largeBytes = 5_000_000_000;

type Due = 'vacuum' | 'freeze' | 'measure';

/**
 * Does what the processes of a PostgreSQL server do in the background, and PGlite has none: checkpoints, vacuum, freezing. Each statement
 * stops everybody else while it runs, so each is kept short: one table at a time, before much has gathered; what would take longer
 * waits for half a second in which nobody writes.
 */
export class EmbeddedMaintenance implements Service {
  readonly name = 'embedded maintenance';
  readonly #options: MaintenanceOptions;
  /** In the monotonic time of the clock. */
  readonly #dueAtMs: Record<Due, number> = { vacuum: 0, freeze: 0, measure: 0 };
  /** Pages that the last freezing of a table left as they were: rows in them were still too new, or change all the time. */
  #leftUnfrozen = new Map<string, number>();
  #walBytes = 0;
  #sizeBytes = 0;
  #largeSaidAtMs = -Infinity;
  #fsyncsBefore: number | undefined;
  #restsUntilMs = -Infinity;
  #restsLeftMs = 0;
  readonly #rest: Rest;
  #cancel: (() => void) | null = null;
  #working: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
    this.#rest = new Rest(options.clock);
  }

  /** Bytes of log that a recovery would replay, as of the last look. */
  get walBytes(): number {
    return this.#walBytes;
  }

  /** The whole database on disk, without its log, as of the last look. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  start(): Promise<void> {
    this.#stopped = false;
    this.#schedule();
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    this.#rest.cutShort();
    await this.#working;
  }

  /** Looks what is due, and does it. Never rejects. */
  async tick(): Promise<void> {
    const { engine, clock, onFailure, walBytesMax = walBytesMaxDefault } = this.#options;
    const isQuiet = engine.fsyncs === this.#fsyncsBefore;
    const nowMs = clock.monotonic();
    this.#restsLeftMs = restsMsMax;
    try {
      // The first one early: a new folder's many files would make it longer than any other.
      const walBytesMin = isQuiet || this.#fsyncsBefore === undefined ? quietWalBytesMin : walBytesMax;
      const isCheckpointDue = await this.#measureLog(walBytesMin);
      if (this.#isDue('vacuum', nowMs, vacuumEveryMs)) await this.#vacuum();
      // What is frozen after a checkpoint goes into the log as whole pages; before it, hardly anything does.
      if (this.#isDue('freeze', nowMs, freezeEveryMs) || isCheckpointDue) await this.#freeze();
      if (isCheckpointDue) await this.#checkpoint();
      if (this.#isDue('measure', nowMs, measureEveryMs)) await this.#measure(nowMs);
    } catch (error) {
      onFailure(error);
    }
    this.#fsyncsBefore = engine.fsyncs;
  }

  /** Whether there is, or will be by the next look, so much log. */
  async #measureLog(bytesMin: number): Promise<boolean> {
    const [row] = await this.#options.engine.maintain<{ bytes: string }>(maintenance.walSinceCheckpoint);
    const bytes = Number(row?.bytes ?? 0);
    const grown = Math.max(0, bytes - this.#walBytes);
    this.#walBytes = bytes;
    return bytes + grown >= bytesMin;
  }

  async #checkpoint(): Promise<void> {
    await this.#run('checkpoint', maintenance.checkpoint);
    this.#walBytes = 0;
  }

  async #vacuum(): Promise<void> {
    const { engine, deadRowsMin = deadRowsMinDefault } = this.#options;
    const tables = await engine.maintain<{ name: string }>(maintenance.tablesToVacuum(deadRowsMin));
    for (const { name } of tables) await this.#run('vacuum', maintenance.vacuum(name, { freeze: false }));
  }

  /** A table that grows is frozen as it grows, so that none is ever long. */
  async #freeze(): Promise<void> {
    const { engine, freezeAgeMin = freezeAgeMinDefault } = this.#options;
    const nextDueAtMs = this.#dueAtMs.freeze;
    // At the next look again, if it fails.
    this.#dueAtMs.freeze = 0;
    const look = async (): Promise<maintenance.UnfrozenRow[]> =>
      engine.maintain(maintenance.tablesToFreeze(freezeAgeMin, freezePagesMin));
    const due = (await look()).filter(
      ({ name, pages, is_old }) => is_old || pages - (this.#leftUnfrozen.get(name) ?? 0) >= freezePagesMin,
    );
    for (const { name } of due) await this.#run('freeze', maintenance.vacuum(name, { freeze: true }));
    if (due.length > 0) {
      const frozen = new Set(due.map(({ name }) => name));
      const before = this.#leftUnfrozen;
      const leftOf = ({ name, pages }: maintenance.UnfrozenRow): number =>
        frozen.has(name) ? pages : (before.get(name) ?? 0);
      this.#leftUnfrozen = new Map((await look()).map((row) => [row.name, leftOf(row)]));
    }
    this.#dueAtMs.freeze = nextDueAtMs;
  }

  async #measure(nowMs: number): Promise<void> {
    const { engine, onLarge } = this.#options;
    const [row] = await engine.maintain<{ bytes: string }>(maintenance.databaseSize);
    this.#sizeBytes = Number(row?.bytes ?? 0);
    if (this.#sizeBytes < largeBytes || nowMs - this.#largeSaidAtMs < freezeEveryMs) return;
    this.#largeSaidAtMs = nowMs;
    onLarge(this.#sizeBytes);
  }

  async #run(task: MaintenanceTask, text: string): Promise<void> {
    const { engine, clock, onDone } = this.#options;
    const restMs = Math.min(this.#restsUntilMs - clock.monotonic(), this.#restsLeftMs);
    // Nobody waits for a rest when the node stops.
    if (restMs > 0 && !this.#stopped) {
      this.#restsLeftMs -= restMs;
      await this.#rest.take(restMs);
    }
    await engine.maintain(text, (seconds) => {
      this.#restsUntilMs = clock.monotonic() + Math.min(restFactor * seconds * 1000, restMsMax);
      onDone(task, seconds);
    });
  }

  #isDue(task: Due, nowMs: number, everyMs: number): boolean {
    if (nowMs < this.#dueAtMs[task]) return false;
    this.#dueAtMs[task] = nowMs + everyMs;
    return true;
  }

  #schedule(): void {
    this.#cancel = this.#options.clock.after(tickMs, () => {
      this.#working = this.#tickAndSchedule();
    });
  }

  async #tickAndSchedule(): Promise<void> {
    await this.tick();
    if (!this.#stopped) this.#schedule();
  }
}

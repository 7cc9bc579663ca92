import type { Database, Transaction } from '../db/database.js';
import { recordChanges, startAudit } from '../db/sql/audit.js';
import { anyDeletedOrg } from '../db/sql/deletions.js';
import type { ImportRow, JsonRow } from '../db/sql/imports.js';
import {
  actAs,
  anyExistingOrg,
  completeImport,
  copyEvents,
  findImport,
  insertAllDedup,
  insertRows,
  markChunk,
  releaseOrgs,
} from '../db/sql/imports.js';
import { createPartition, existingPartitions, partitionName } from '../db/sql/partitions.js';
import { lockOrg } from '../db/sql/tenancy.js';
import { encodeOrgId } from '../ids.js';
import { programActor } from '../tenancy/audit.js';
import { FormatError, kindOf, parseLine } from './format.js';
import { parseChunk } from './parse-chunk.js';
import type { ChunkRows } from './parse-chunk.js';
import type { Chunk } from './read-chunks.js';
import { ChunkReader, textOf } from './read-chunks.js';

export interface ImportProgress {
  readonly orgs: number;
  readonly events: number;
  /** Bytes of the export's text that are behind it. */
  readonly textBytes: number;
}

export interface ImportOptions {
  /** The newest schema that this program knows. */
  readonly schemaVersion: number;
  /** For the audit log of the orgs. */
  readonly nowMs: () => number;
  readonly onProgress: (progress: ImportProgress) => void;
  /** Awaited before the first org is stored. */
  readonly beforeFirstOrg?: () => Promise<void>;
  /** Asked before each chunk: while there is hardly any room, none is stored. */
  readonly isDiskShort?: () => boolean;
}

/** What an import found in the file, and whether it changed anything. */
export interface ImportResult {
  readonly orgs: number;
  readonly events: number;
  readonly textBytes: number;
  readonly outcome: 'checked' | 'imported' | 'nothing_to_do';
}

/** The target has what the file would bring, from somewhere else. Nothing was changed by the chunk that met it. */
export class ImportConflict extends Error {
  override readonly name = 'ImportConflict';
}

/** There is hardly any room left for the data folder. All chunks before this one are stored. */
export class DiskShort extends Error {
  override readonly name = 'DiskShort';
  override readonly message =
    'the file system of the data folder is nearly full: make room, then run the same import again; it goes on from here';
}

/**
 * Reads the whole file without changing anything: every checksum, and that no org of it exists but those that an earlier try of this same import
 * brought. Rejects with a `FormatError` or an `ImportConflict`.
 */
export function checkImport(
  database: Database,
  bytes: AsyncIterable<Buffer>,
  options: ImportOptions,
): Promise<ImportResult> {
  return new Import(database, options, false).run(bytes);
}

/**
 * Stores an export, chunk by chunk, each in one transaction that also records that it is stored; so it may be ended at any moment, and going on is
 * the same call with the same bytes from their beginning. An org can be used from its last line on: until then it is suspended, which its keys' holders
 * are told, rather than unknown. Rejects as `checkImport` does, with all chunks before the wrong one stored.
 */
export function importOrgs(
  database: Database,
  bytes: AsyncIterable<Buffer>,
  options: ImportOptions,
): Promise<ImportResult> {
  return new Import(database, options, true).run(bytes);
}

class Import {
  #firstChecksum = Buffer.alloc(0);
  /** Of all chunks so far. */
  #checksum = Buffer.alloc(0);
  /** Where an earlier try has ended. */
  #found: ImportRow | null = null;
  #hasOrgs = false;
  #partitions: Set<string> | null = null;
  #storing: Promise<void> = Promise.resolve();

  constructor(
    private readonly database: Database,
    private readonly options: ImportOptions,
    private readonly isStoring: boolean,
  ) {}

  async run(bytes: AsyncIterable<Buffer>): Promise<ImportResult> {
    const reader = new ChunkReader();
    try {
      for await (const chunk of reader.read(textOf(bytes))) {
        if (chunk.number === 1) await this.#begin(chunk, reader.schemaVersion);
        if (!this.#isStored(chunk)) await this.#meet(chunk);
        this.#checksum = Buffer.from(chunk.checksum, 'hex');
        this.options.onProgress({ ...reader.outline.totals, textBytes: reader.textBytes });
      }
    } finally {
      await this.#storing.catch(() => {});
    }
    await this.#storing;
    if (reader.chunks < Number(this.#found?.chunks ?? 0)) throw anotherFile();
    const { orgs, events } = reader.outline.totals;
    const result = { orgs, events, textBytes: reader.textBytes };
    if (this.#found?.complete === true) return { ...result, outcome: 'nothing_to_do' };
    if (!this.isStoring) return { ...result, outcome: 'checked' };
    await completeImport(this.database, this.#firstChecksum);
    return { ...result, outcome: 'imported' };
  }

  async #begin(chunk: Chunk, schemaVersion: number): Promise<void> {
    const known = this.options.schemaVersion;
    if (schemaVersion > known) {
      throw new FormatError(
        `the export was made of schema version ${schemaVersion}, and this program knows ${known}: use the Sluice that wrote it, or a newer one`,
      );
    }
    this.#firstChecksum = Buffer.from(chunk.checksum, 'hex');
    this.#found = await findImport(this.database, this.#firstChecksum);
  }

  #isStored(chunk: Chunk): boolean {
    const stored = Number(this.#found?.chunks ?? 0);
    if (chunk.number === stored && this.#found?.checksum.toString('hex') !== chunk.checksum) throw anotherFile();
    return chunk.number <= stored;
  }

  /** A chunk that is not stored yet: it is parsed and its orgs looked for while the one before it is being stored. */
  async #meet(chunk: Chunk): Promise<void> {
    if (this.#found?.complete === true) throw anotherFile();
    const orgs = orgsOf(chunk);
    const existing = orgs.length === 0 ? null : await anyExistingOrg(this.database, orgs);
    if (existing !== null) {
      const message = `the org ${encodeOrgId(existing)} is in the database already; import into one without it`;
      throw new ImportConflict(message);
    }
    const deleted = orgs.length === 0 ? null : await anyDeletedOrg(this.database, orgs);
    if (deleted !== null) {
      const message = `the org ${encodeOrgId(deleted)} was deleted from this database, which never takes its id again; import into another one`;
      throw new ImportConflict(message);
    }
    if (!this.isStoring) return;
    if (this.options.isDiskShort?.() === true) throw new DiskShort();
    const rows = parseChunk(chunk);
    const before = this.#checksum;
    await this.#storing;
    if (rows.orgs.length > 0 && !this.#hasOrgs) await this.options.beforeFirstOrg?.();
    this.#hasOrgs ||= rows.orgs.length > 0;
    this.#storing = this.#store(chunk, before, rows);
    this.#storing.catch(() => {});
  }

  async #store(chunk: Chunk, before: Buffer, rows: ChunkRows): Promise<void> {
    await this.#ensurePartitions(rows.eventsByDay.keys());
    const mark = {
      firstChecksum: this.#firstChecksum,
      number: chunk.number,
      before,
      after: Buffer.from(chunk.checksum, 'hex'),
    };
    await this.database.transaction({ role: 'owner' }, async (tx) => {
      if (!(await markChunk(tx, mark))) throw new ImportConflict('another process imports this file now: let it end');
      await requireOrg(tx, chunk.orgBefore?.org);
      await storeRows(tx, rows, this.options.nowMs());
    });
  }

  /** Days may be long past, and nobody but an import makes partitions of those. */
  async #ensurePartitions(days: Iterable<number>): Promise<void> {
    for (const day of days) {
      this.#partitions ??= new Set(await existingPartitions(this.database));
      const name = partitionName(day);
      if (!this.#partitions.has(name)) await createPartition(this.database, day);
      this.#partitions.add(name);
    }
  }
}

/** An org whose first lines are stored may have been deleted since: then nothing more of it is, or it would stay for ever. */
async function requireOrg(tx: Transaction, org: string | undefined): Promise<void> {
  if (org === undefined) return;
  await actAs(tx, 'system');
  if ((await lockOrg(tx, org)) !== null) return;
  throw new ImportConflict(
    `the org ${encodeOrgId(org)} was deleted while it was imported; import into another database`,
  );
}

/** Each table by the role that has the grant; no role has got one more for imports. */
async function storeRows(tx: Transaction, rows: ChunkRows, nowMs: number): Promise<void> {
  await actAs(tx, 'system');
  await insertRows(tx, 'orgs', rows.orgs);
  await beginAudit(tx, rows.orgs, nowMs);
  await insertRows(tx, 'api_keys', rows.keys);
  await insertRows(tx, 'heads', rows.heads);
  await insertRows(tx, 'subscriptions', rows.subscriptions);
  await releaseOrgs(tx, rows.released);
  for (const org of new Set([...rows.leases.keys(), ...rows.deadLetters.keys()])) {
    await actAs(tx, 'app', org);
    await insertRows(tx, 'leases', rows.leases.get(org) ?? []);
    await insertRows(tx, 'dead_letters', rows.deadLetters.get(org) ?? []);
  }
  await actAs(tx, 'ingest');
  await copyEvents(tx, rows.eventsByDay);
  await insertAllDedup(tx, rows.dedup);
}

/** The audit log of where an org comes from stays there; here it begins with where the org comes from. */
async function beginAudit(tx: Transaction, rows: readonly JsonRow[], nowMs: number): Promise<void> {
  const orgs = rows.map((row) => String(row['org']));
  if (orgs.length === 0) return;
  await startAudit(tx, orgs);
  for (const org of orgs) {
    const change = { atMs: nowMs, actor: programActor, action: 'org.imported', target: encodeOrgId(org), details: {} };
    await recordChanges(tx, org, change);
  }
}

function orgsOf(chunk: Chunk): string[] {
  const lines = chunk.lines.filter((line) => kindOf(line.toString('latin1', 0, 16)) === 'org');
  return lines.map((line) => parseLine('org', line.toString()).org);
}

function anotherFile(): ImportConflict {
  return new ImportConflict(
    'the database has orgs of another export that begins as this one does: go on with that file, or import into a database without them',
  );
}

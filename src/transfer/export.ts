import type { Database } from '../db/database.js';
import { orgsAfter, readDedupPage, readEventPage, readOrgState, readTotals } from '../db/sql/transfer.js';
import type { DedupRow, FullEventRow, Page } from '../db/sql/transfer.js';
import type { ChunkWriter } from './chunk-writer.js';
import type { DataLine } from './format.js';
import { headerLine } from './format.js';
import { dedupLine, eventLine, stateLines } from './lines.js';

export interface ExportProgress {
  readonly orgs: number;
  readonly events: number;
  /** Positions of the logs that are behind it, gaps included. */
  readonly positions: number;
  /** What the database had when the export, or this part of it, began. */
  readonly total: { readonly orgs: number; readonly positions: number };
}

const orgsPage = 500;
/** Days of the log that one statement opens; a partition more costs more than a statement more. */
const daysPerStatementMax = 8;

/**
 * Writes all orgs in ascending order of their numbers, from where `writer` stands. Each org is read as it is when its turn comes: its state in one
 * short snapshot, then its log up to the head that it had then, in bounded reads; so nothing is held open, and what is ingested meanwhile is not in it.
 */
export async function exportOrgs(
  database: Database,
  writer: ChunkWriter,
  schemaVersion: number,
  onProgress: (progress: ExportProgress) => void,
): Promise<void> {
  const total = await readTotals(database);
  const { outline } = writer;
  const report = (position?: number): void => {
    const { orgs, events, positions } = outline.totals;
    const here = position === undefined ? 0 : position - (outline.head?.first_position ?? 0) + 1;
    onProgress({ orgs, events, positions: positions + here, total });
  };
  if (writer.isEmpty) writer.begin(headerLine(schemaVersion));
  if (outline.org !== null) await exportLog(database, writer, outline.org.org, report);
  for (;;) {
    const orgs = await orgsAfter(database, outline.lastOrg, orgsPage);
    for (const org of orgs) {
      const state = await readOrgState(database, org);
      // Gone since the list was read.
      if (state === null) continue;
      await writer.add(stateLines(state));
      await exportLog(database, writer, org, report);
    }
    if (orgs.length < orgsPage) break;
  }
  await writer.end();
  report();
}

/** The events and dedup ids of the org under way, from where its lines end, and its end. */
async function exportLog(
  database: Database,
  writer: ChunkWriter,
  org: string,
  report: (position?: number) => void,
): Promise<void> {
  const { outline } = writer;
  const { head, lastEvent, lastDedup } = outline;
  if (head === null) throw new Error('an org has lines after its head, and no head');
  if (lastDedup === null) {
    const from = lastEvent ?? { position: head.first_position - 1, day: head.first_day };
    for await (const rows of logPages(database, org, head, from)) {
      await writer.add(rows.map(eventLine));
      report(Number(rows.at(-1)?.position));
    }
  }
  for await (const rows of dedupPages(database, org, head, lastDedup?.dedup_id ?? '')) {
    await writer.add(rows.map(dedupLine));
    report(head.position);
  }
  await writer.add([outline.orgEndLine]);
  report();
}

/** Days never run backwards along a log, so its events come day by day in the order of their positions. */
async function* logPages(
  database: Database,
  org: string,
  head: DataLine<'head'>,
  from: { readonly position: number; readonly day: number },
): AsyncGenerator<readonly FullEventRow[]> {
  for (let { position: after, day } = from; day <= head.day; day += daysPerStatementMax) {
    const days = { first: day, last: Math.min(day + daysPerStatementMax - 1, head.day) };
    const read = (): Promise<Page<FullEventRow>> => readEventPage(database, org, days, { after, last: head.position });
    for await (const rows of readAhead(read, (last) => (after = Number(last.position)))) yield rows;
  }
}

async function* dedupPages(
  database: Database,
  org: string,
  head: DataLine<'head'>,
  from: string,
): AsyncGenerator<readonly DedupRow[]> {
  let after = from;
  const read = (): Promise<Page<DedupRow>> => readDedupPage(database, org, after, head.position);
  yield* readAhead(read, (last) => (after = last.dedup_id));
}

/** Page after page, the next one being read while the last one is worked on. */
async function* readAhead<Row>(
  read: () => Promise<Page<Row>>,
  passed: (last: Row) => void,
): AsyncGenerator<readonly Row[]> {
  let next: Promise<Page<Row>> | null = read();
  while (next !== null) {
    const page: Page<Row> = await next;
    const last = page.rows.at(-1);
    if (last === undefined) return;
    passed(last);
    next = page.isFull ? read() : null;
    // Whoever stops in the middle does not hear of it.
    next?.catch(() => {});
    yield page.rows;
  }
}

import type { CopyValue } from '../db/copy-binary.js';
import type { JsonRow } from '../db/sql/imports.js';
import type { DedupEntry } from '../db/sql/ingest.js';
import { FormatError, kindOf, parseLine, timeMs } from './format.js';
import type { DataLine } from './format.js';
import type { Chunk } from './read-chunks.js';

/** A chunk as the rows that it brings. */
export interface ChunkRows {
  /** All of them suspended. */
  readonly orgs: JsonRow[];
  readonly keys: JsonRow[];
  readonly heads: JsonRow[];
  readonly subscriptions: JsonRow[];
  /** By org, since only the org's own role writes them. */
  readonly leases: Map<string, JsonRow[]>;
  readonly deadLetters: Map<string, JsonRow[]>;
  readonly eventsByDay: Map<number, CopyValue[][]>;
  readonly dedup: DedupEntry[];
  /** Orgs that end here and were not suspended where they come from. */
  readonly released: string[];
}

/** An epoch has 24 bits in an event's id. */
const epochMax = 2 ** 24 - 1;

export function parseChunk(chunk: Chunk): ChunkRows {
  const rows: ChunkRows = {
    orgs: [],
    keys: [],
    heads: [],
    subscriptions: [],
    leases: new Map(),
    deadLetters: new Map(),
    eventsByDay: new Map(),
    dedup: [],
    released: [],
  };
  let orgLine = chunk.orgBefore;
  for (const bytes of chunk.lines) {
    const text = bytes.toString();
    const kind = kindOf(text);
    if (kind === 'org') orgLine = parseLine('org', text);
    if (orgLine === null) throw new FormatError('a line of an org stands before any org');
    const { org } = orgLine;
    switch (kind) {
      case 'org':
        rows.orgs.push({ ...columns(orgLine, org), suspended: true });
        break;
      case 'key': {
        const line = parseLine('key', text);
        rows.keys.push({ ...columns(line, org), hash: `\\x${line.hash}` });
        break;
      }
      case 'head': {
        const line = parseLine('head', text);
        rows.heads.push({ ...columns(line, org), epoch: raised(line.epoch) });
        break;
      }
      case 'subscription':
        rows.subscriptions.push({ erased: 0, ...columns(parseLine('subscription', text), org) });
        break;
      case 'lease':
        listOf(rows.leases, org).push(columns(parseLine('lease', text), org));
        break;
      case 'dead_letter':
        listOf(rows.deadLetters, org).push(columns(parseLine('dead_letter', text), org));
        break;
      case 'event': {
        const line = parseLine('event', text);
        listOf(rows.eventsByDay, line.day).push(copyRow(line, org));
        break;
      }
      case 'dedup':
        rows.dedup.push(dedupEntry(parseLine('dedup', text), org));
        break;
      case 'org_end':
        if (!orgLine.suspended) rows.released.push(org);
        break;
      default:
        throw new FormatError('a line is of no kind that this version knows');
    }
  }
  return rows;
}

/**
 * The old server may have given out positions after the export that the new one gives out again, and both name events by epoch and position: so
 * the new one's epoch is another.
 */
function raised(epoch: number): number {
  if (epoch >= epochMax) throw new FormatError(`an epoch cannot be raised above ${epochMax}`);
  return epoch + 1;
}

/** A line's members are the names of columns, but for `line`, which an insert passes over. */
function columns(line: { readonly line: string }, org: string): JsonRow {
  return { ...line, org };
}

function copyRow(event: DataLine<'event'>, org: string): CopyValue[] {
  return [
    org,
    event.epoch,
    event.position,
    event.day,
    event.type,
    event.subject,
    event.occurred_at === null ? null : timeMs(event.occurred_at),
    timeMs(event.received_at),
    event.attributes,
    event.payload,
  ];
}

function dedupEntry(dedup: DataLine<'dedup'>, org: string): DedupEntry {
  return {
    org,
    dedupId: dedup.dedup_id,
    epoch: dedup.epoch,
    position: dedup.position,
    day: dedup.day,
    receivedAtMs: timeMs(dedup.received_at),
    bodyHash: Buffer.from(dedup.body_hash, 'hex'),
  };
}

function listOf<Key, Item>(map: Map<Key, Item[]>, key: Key): Item[] {
  const list = map.get(key) ?? [];
  if (list.length === 0) map.set(key, list);
  return list;
}

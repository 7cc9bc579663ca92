/**
 * What an engine did to its files, and what its program said meanwhile: one file of records in the order in which things happened. Each record
 * is appended in one write after what it tells of has happened, so whatever stands before a sync's record was asked for before the disk
 * said that it has it, and whatever stands behind an acknowledgement was not needed for it.
 */

/** Paths are relative to the engine's folder. */
export type FileRecord =
  | { readonly op: 'open'; readonly fd: number; readonly path: string; readonly create: boolean; readonly cut: boolean }
  | { readonly op: 'write'; readonly fd: number; readonly position: number; readonly bytes: Buffer }
  | { readonly op: 'cut'; readonly fd: number; readonly size: number }
  | { readonly op: 'sync'; readonly fd: number }
  | { readonly op: 'makeFolder' | 'remove'; readonly path: string }
  | { readonly op: 'rename'; readonly path: string; readonly to: string };

export type Note =
  /** An event is about to be given to the product: its number, from which everything else about it follows. */
  | { readonly op: 'sending'; readonly events: readonly number[] }
  | { readonly op: 'answered'; readonly events: readonly Answered[] }
  /** The product said that these positions are acknowledged. */
  | { readonly op: 'consumed'; readonly org: string; readonly positions: readonly number[] }
  /** For whoever reads the report of a failure. */
  | { readonly op: 'step'; readonly name: string };

export interface Answered {
  readonly event: number;
  /** Null: refused, and said to be not stored. */
  readonly id: string | null;
  /** 201: stored; 200: it was stored before; 0: refused. */
  readonly status: number;
  readonly receivedAt: string;
}

export type TraceRecord = FileRecord | Note;

const lengthsBytes = 8;

export function encodeRecord(record: TraceRecord): Buffer {
  const bytes = record.op === 'write' ? record.bytes : null;
  // New segments of the engine's log are 16 MiB of zeros.
  const stored = bytes === null || isZero(bytes) ? Buffer.alloc(0) : bytes;
  const header = Buffer.from(JSON.stringify(bytes === null ? record : { ...record, bytes: bytes.length }));
  const lengths = Buffer.alloc(lengthsBytes);
  lengths.writeUInt32LE(header.length, 0);
  lengths.writeUInt32LE(stored.length, 4);
  return Buffer.concat([lengths, header, stored]);
}

/** A last record that was not written to its end is left out. */
export function decodeTrace(trace: Buffer): TraceRecord[] {
  const records: TraceRecord[] = [];
  for (let start = 0; start + lengthsBytes <= trace.length;) {
    const headerEnd = start + lengthsBytes + trace.readUInt32LE(start);
    const end = headerEnd + trace.readUInt32LE(start + 4);
    if (end > trace.length) break;
    const header = JSON.parse(trace.toString('utf8', start + lengthsBytes, headerEnd)) as { op: string; bytes: number };
    const stored = trace.subarray(headerEnd, end);
    const bytes = stored.length > 0 ? stored : Buffer.alloc(header.op === 'write' ? header.bytes : 0);
    records.push((header.op === 'write' ? { ...header, bytes } : header) as TraceRecord);
    start = end;
  }
  return records;
}

const zeros = Buffer.alloc(65_536);

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const piece = bytes.subarray(at, at + zeros.length);
    if (!piece.equals(zeros.subarray(0, piece.length))) return false;
  }
  return true;
}

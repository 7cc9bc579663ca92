/** The chain of an org's audit log: what a row's hash is taken over, and whether rows follow each other. docs/audit.md tells it to others. */
import { hash } from 'node:crypto';
import { encodeOrgId } from './ids.js';
import { formatTime } from './time-format.js';

/** Strings, whole numbers, booleans, nulls, and lists and objects of these: what comes back from any JSON storage as it went in. */
export type AuditValue = string | number | boolean | null | readonly AuditValue[] | AuditDetails;
export interface AuditDetails {
  readonly [name: string]: AuditValue;
}

/** What was done. */
export interface AuditedChange {
  readonly atMs: number;
  /** The id of the key, `admin`, or `sluice` for what the program does of itself. */
  readonly actor: string;
  /** What it was done to and how, such as `key.created`. */
  readonly action: string;
  /** The id or name of what was changed. */
  readonly target: string;
  /** Never a secret. */
  readonly details: AuditDetails;
}

/** Where a chain stands after a row. */
export interface ChainEnd {
  readonly sequence: number;
  readonly hash: Buffer;
}

export interface AuditRow extends AuditedChange, ChainEnd {
  readonly previousHash: Buffer;
}

/** Before the first row: sequence 0 and 32 zero bytes. */
export const chainStart: ChainEnd = { sequence: 0, hash: Buffer.alloc(32) };

/**
 * The change as the next row of a chain. The hash is SHA-256 of the canonical JSON (RFC 8785) of an array of the version of this form, the org's
 * id and all that the row holds, so no value of a row can be changed, and no row moved, without the hash becoming a different one.
 */
export function nextRow(org: string, end: ChainEnd, change: AuditedChange): AuditRow {
  const row = { ...change, sequence: end.sequence + 1, previousHash: end.hash };
  return { ...row, hash: hashOf(org, row) };
}

/** Why `row` is not what follows `end` in the chain of `org`; null if it is. */
export function chainBreak(org: string, end: ChainEnd, row: AuditRow): string | null {
  const name = `row ${row.sequence}`;
  if (row.sequence !== end.sequence + 1) return `row ${end.sequence + 1} is missing`;
  if (!row.previousHash.equals(end.hash)) return `${name} does not follow the row before it`;
  let computed: Buffer;
  try {
    computed = hashOf(org, row);
  } catch {
    return `${name} was changed`;
  }
  return computed.equals(row.hash) ? null : `${name} was changed`;
}

const formOfChain = 'sluice-audit-1';

function hashOf(org: string, row: Omit<AuditRow, 'hash'>): Buffer {
  const { sequence, atMs, actor, action, target, details, previousHash } = row;
  const id = encodeOrgId(org);
  const time = formatTime(atMs);
  const values = [formOfChain, id, sequence, time, actor, action, target, details, previousHash.toString('hex')];
  return hash('sha256', canonicalJson(values), 'buffer');
}

/** Members sorted by name as UTF-16 and no white space: RFC 8785. Throws a RangeError for a number that is not a safe whole one. */
export function canonicalJson(value: AuditValue): string {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new RangeError(`not a whole number: ${value}`);
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isList(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(',')}}`;
}

function isList(value: readonly AuditValue[] | AuditDetails): value is readonly AuditValue[] {
  return Array.isArray(value);
}

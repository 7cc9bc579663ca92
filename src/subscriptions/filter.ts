import type { FilterVersion } from '../db/sql/subscriptions.js';
import type { TypeFilter } from '../db/sql/type-filter.js';
import type { PositionSet } from './position-set.js';

/** Valid patterns as a filter: a type, `user.*` for whatever follows `user.`, `*` for all. Null: every type. */
export function typeFilterOf(patterns: readonly string[] | null): TypeFilter | null {
  if (patterns === null || patterns.includes('*')) return null;
  return {
    exact: patterns.filter((pattern) => !pattern.endsWith('.*')),
    prefixes: patterns.filter((pattern) => pattern.endsWith('.*')).map((pattern) => pattern.slice(0, -1)),
  };
}

/** Whether a subscription with these versions of its filter wants an event. */
export function wants(filters: readonly FilterVersion[], position: number, type: string): boolean {
  const filter = typeFilterOf(versionAt(filters, position)?.types ?? null);
  return filter === null || filter.exact.includes(type) || filter.prefixes.some((prefix) => type.startsWith(prefix));
}

/** The positions of a set for which one version of the filter holds, from the first one on. */
export interface Segment {
  readonly positions: PositionSet;
  readonly types: TypeFilter | null;
  /** The last position for which that version holds; Infinity for the newest. */
  readonly last: number;
}

/** The first segment of a set. Null: the set is empty. */
export function firstSegment(filters: readonly FilterVersion[], positions: PositionSet): Segment | null {
  const first = positions.ranges[0]?.[0];
  if (first === undefined) return null;
  const last = (filters.find(({ from }) => from > first)?.from ?? Infinity) - 1;
  const types = typeFilterOf(versionAt(filters, first)?.types ?? null);
  return { positions: last === Infinity ? positions : positions.upTo(last), types, last };
}

/** Every segment of a set, in order. */
export function* segmentsOf(filters: readonly FilterVersion[], positions: PositionSet): Generator<Segment> {
  let rest = positions;
  for (let segment = firstSegment(filters, rest); segment !== null; segment = firstSegment(filters, rest)) {
    yield segment;
    if (segment.last === Infinity) return;
    rest = rest.after(segment.last);
  }
}

function versionAt(filters: readonly FilterVersion[], position: number): FilterVersion | undefined {
  return filters.findLast(({ from }) => from <= position);
}

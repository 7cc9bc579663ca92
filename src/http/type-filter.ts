import type { TypeFilter } from '../db/sql/type-filter.js';
import { invalid } from '../errors.js';
import { typeFilterOf } from '../subscriptions/filter.js';

const patternPattern = /^(?:\*|[A-Za-z0-9][A-Za-z0-9._\-:/]{0,254}|[A-Za-z0-9][A-Za-z0-9._\-:/]{0,252}\.\*)$/;

/** Patterns one filter may have. */
export const typePatternsMax = 100;

/** The filter of a query. Null: every type. Throws `validation_failed` for what is no pattern. */
export function parseTypeFilter(patterns: readonly string[] | undefined): TypeFilter | null {
  checkPatterns(patterns ?? [], '?type');
  return typeFilterOf(patterns ?? null);
}

/** Throws `validation_failed` for what is no pattern, naming `path`. */
export function checkPatterns(patterns: readonly string[], path: string): void {
  if (patterns.every((pattern) => patternPattern.test(pattern))) return;
  throw invalid({ path, message: 'must be an event type, a prefix that ends in ".*", or "*"' });
}

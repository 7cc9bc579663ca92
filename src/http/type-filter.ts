import type { TypeFilter } from '../db/sql/events.js';
import { invalid } from '../errors.js';

const patternPattern = /^(?:\*|[A-Za-z0-9][A-Za-z0-9._\-:/]{0,254}|[A-Za-z0-9][A-Za-z0-9._\-:/]{0,252}\.\*)$/;

/** Patterns one filter may have. */
export const typePatternsMax = 100;

/** Type patterns: a type, `user.*` for whatever follows `user.`, `*` for all. Null: every type. */
export function parseTypeFilter(patterns: readonly string[] | undefined): TypeFilter | null {
  if (patterns === undefined) return null;
  for (const pattern of patterns) {
    if (!patternPattern.test(pattern)) {
      throw invalid({ path: '?type', message: 'must be an event type, a prefix that ends in ".*", or "*"' });
    }
  }
  if (patterns.includes('*')) return null;
  return {
    exact: patterns.filter((pattern) => !pattern.endsWith('.*')),
    prefixes: patterns.filter((pattern) => pattern.endsWith('.*')).map((pattern) => pattern.slice(0, -1)),
  };
}

import { StorageError } from './database.js';
import type { Role, Scope } from './database.js';

const setRole: Record<Role, readonly string[]> = {
  owner: [],
  ingest: [
    'SET LOCAL ROLE sluice_ingest',
    // Reserving keeps its locking order, and claiming dedup ids its speed, only if all is found by index, row by row; ALTER ROLE settings do not follow SET ROLE.
    `SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true),
      set_config('enable_bitmapscan', 'off', true)`,
  ],
  app: ['SET LOCAL ROLE sluice_app'],
  system: ['SET LOCAL ROLE sluice_system'],
  erasure: ['SET LOCAL ROLE sluice_erasure'],
};

/**
 * The statements that begin a transaction of this scope; `settings` are those it has besides. The org is set by a statement, not by a parameter
 * (SET takes none), so only digits get through.
 */
export function beginTexts({ role, org }: Scope, settings: readonly string[]): readonly string[] {
  if (org !== undefined && !/^[0-9]{1,19}$/.test(org)) throw new StorageError('sql', 'an org is a decimal number');
  const setOrg = org === undefined ? [] : [`SET LOCAL sluice.org = '${org}'`];
  return ['BEGIN ISOLATION LEVEL READ COMMITTED', ...settings, ...setRole[role], ...setOrg];
}

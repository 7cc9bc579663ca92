import type { Database, Scope, Transaction } from '../../src/db/database.js';

/** A database as it is for whoever is connected as `role`: each transaction begins as that login, and changes to its own role from there. */
export function connectedAs(role: string, database: Database): Database {
  const transaction = <T>(scope: Scope, work: (tx: Transaction) => Promise<T>): Promise<T> =>
    database.transaction({ ...scope, role: 'owner' }, async (tx) => {
      const become = scope.role === 'owner' ? '' : `; SET LOCAL ROLE sluice_${scope.role}`;
      await tx.script(`SET LOCAL SESSION AUTHORIZATION ${role}${become}`);
      return work(tx);
    });
  return {
    engine: database.engine,
    transaction,
    query: (scope, statement, values) => transaction(scope, (tx) => tx.query(statement, values)),
    listen: (channel, onNotify, onGap) => database.listen(channel, onNotify, onGap),
    close: () => database.close(),
  };
}

/** Makes an embedded database as it was before any migration, and gives it to a new login that may create roles and is no superuser. */
export async function giveToPlainOwner(database: Database, role: string): Promise<void> {
  await database.transaction({ role: 'owner' }, (tx) =>
    tx.script(`
      DROP SCHEMA public CASCADE;
      DROP ROLE sluice_ingest, sluice_app, sluice_system, sluice_erasure;
      CREATE SCHEMA public AUTHORIZATION pg_database_owner;
      GRANT USAGE ON SCHEMA public TO PUBLIC;
      CREATE ROLE ${role} LOGIN CREATEROLE NOSUPERUSER;
      ALTER DATABASE postgres OWNER TO ${role}`),
  );
}

const settings = Object.entries({
  statement_timeout: '10s',
  lock_timeout: '1s',
  // A node that is stopped in the middle of a batch holds the heads of its orgs; the server lets go of them for it.
  idle_in_transaction_session_timeout: '3s',
  timezone: 'UTC',
  client_encoding: 'UTF8',
  datestyle: 'ISO, MDY',
  intervalstyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  // Every statement here is short; compiling one costs more than it can save (seen: 35 ms for a read of 50 rows).
  jit: 'off',
});

/** Plain SET after connecting: as startup parameters, PgBouncer refuses the time limits. */
export const sessionSetup = settings.map(([name, value]) => `SET ${name} = '${value}'`).join('; ');

/**
 * The same for one transaction, where a pooler gives each transaction another session of the server. It leaves in one write with BEGIN and the first
 * statement, so it costs no round trip.
 */
export const transactionSetup = `SELECT ${settings.map(([name, value]) => `set_config('${name}', '${value}', true)`).join(', ')}`;

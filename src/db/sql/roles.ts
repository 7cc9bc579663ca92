/**
 * The roles of migrations 0001 and 0004, for those who make them by hand, so that the service's own login needs no CREATEROLE. The migrations find
 * them and make none.
 */

const roles = ['sluice_ingest', 'sluice_app', 'sluice_system', 'sluice_erasure'] as const;

/**
 * SQL for a superuser, connected to the database that Sluice is to use (for psql: its address). May be run again. Throws where a name could not be
 * written in it as it is.
 */
export function rolesScript(login: string, database: string): string {
  for (const name of [login, database]) {
    if (!/^[\w.-]{1,63}$/.test(name))
      throw new Error('a name of letters, digits, dots, dashes and underscores is needed');
  }
  return `-- Run this as a superuser, connected to the database "${database}". It may be run again.
-- "${login}" is the owner: the login of DATABASE_URL, which migrates and may become each of the other four. Give it a password:
--   \\password "${login}"
-- Nobody connects as the other four, and they have no passwords; what each may do, the migrations grant.
-- They can log in because a PostgreSQL that is distributed with Citus connects to its workers as them.
DO $$
DECLARE
  role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['${[login, ...roles].join(`', '`)}'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
      EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', role_name);
    END IF;
  END LOOP;
END
$$;
GRANT ${roles.join(', ')} TO "${login}";
-- It makes its tables in the schema public, and lets the four use that.
GRANT CREATE, USAGE ON SCHEMA public TO "${login}" WITH GRANT OPTION;
GRANT CONNECT ON DATABASE "${database}" TO "${login}";
`;
}

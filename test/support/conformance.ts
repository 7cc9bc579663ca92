import { StorageError } from '../../src/db/database.js';

/** For assert.rejects: the server refused a statement with this SQLSTATE. */
export const refused = (sqlstate: string) => (error: unknown) =>
  error instanceof StorageError && error.kind === 'sql' && error.sqlstate === sqlstate;
/** For assert.rejects: a storage error of this kind. */
export const ofKind = (kind: StorageError['kind']) => (error: unknown) =>
  error instanceof StorageError && error.kind === kind;

/** A promise and its resolution, to order things by signals. */
export function signal<T = void>(): { promise: Promise<T>; fire: (value: T) => void } {
  let fire!: (value: T) => void;
  const promise = new Promise<T>((resolve) => {
    fire = resolve;
  });
  return { promise, fire };
}

/** What the conformance suite works on. The stalling trigger makes a COMMIT hang. */
export const schema = `
  DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['sluice_ingest', 'sluice_app', 'sluice_system', 'sluice_erasure'] LOOP
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN EXECUTE format('CREATE ROLE %I', name); END IF;
    END LOOP;
  END $$;
  CREATE TABLE plain (a int, b text);
  CREATE TABLE uniq (a int PRIMARY KEY);
  CREATE TABLE late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE owned (org bigint NOT NULL, b text);
  ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
  ALTER TABLE owned FORCE ROW LEVEL SECURITY;
  CREATE POLICY own ON owned USING (org = NULLIF(current_setting('sluice.org', true), '')::bigint);
  GRANT SELECT, INSERT ON owned TO sluice_app;
  GRANT INSERT ON plain TO sluice_ingest;
  CREATE TABLE stalls (a int);
  CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(8); RETURN NULL; END $$;
  CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON stalls DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stall();
`;

-- The audit log of each org, and what is left of an org that was deleted.

-- Erases what belongs to deleted orgs; its policies let it see nothing else. As in 0001, the role may be there already.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_erasure') THEN
    BEGIN
      CREATE ROLE sluice_erasure LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
  END IF;
  BEGIN
    EXECUTE format('GRANT sluice_erasure TO %I', current_user);
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;
  END;
END
$$;
GRANT USAGE ON SCHEMA public TO sluice_erasure;

-- The end of each org's chain. Its row lock puts the changes of one org in a row; a row that is missing at the end of the log shows against it.
CREATE TABLE audit_heads (
  org      bigint PRIMARY KEY REFERENCES orgs,
  sequence bigint NOT NULL CHECK (sequence >= 0),
  hash     bytea NOT NULL CHECK (octet_length(hash) = 32),
  -- the org was deleted: nothing follows
  closed   boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- Who changed what. docs/audit.md says what `hash` is taken over.
CREATE TABLE audit_log (
  org           bigint NOT NULL REFERENCES audit_heads,
  sequence      bigint NOT NULL CHECK (sequence > 0),
  -- in milliseconds, as it is hashed
  at            timestamptz(3) NOT NULL,
  -- the id of a key, `admin`, or `sluice`
  actor         text NOT NULL,
  action        text NOT NULL,
  target        text NOT NULL,
  details       jsonb NOT NULL,
  previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
  hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (org, sequence)
);

-- The last row of the chain of each org that was deleted, kept so that its number is never given to another and the deletion stays on record.
CREATE TABLE deleted_orgs (
  org           bigint PRIMARY KEY,
  sequence      bigint NOT NULL,
  deleted_at    timestamptz(3) NOT NULL,
  deleted_by    text NOT NULL,
  previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
  hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
  -- null while there may be anything left of it
  erased_at     timestamptz
);
CREATE INDEX deleted_orgs_unerased ON deleted_orgs (org) WHERE erased_at IS NULL;

-- Holds the owner back, too, who has every grant: rows of the log go only with their org, tombstones never.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_log' THEN
    IF EXISTS (SELECT FROM deleted_orgs AS d WHERE d.org = OLD.org) THEN
      RETURN OLD;
    END IF;
  END IF;
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER deleted_orgs_kept BEFORE DELETE ON deleted_orgs FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER deleted_orgs_fixed BEFORE UPDATE OF org, sequence, deleted_at, deleted_by, previous_hash, hash ON deleted_orgs
  FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER deleted_orgs_no_truncate BEFORE TRUNCATE ON deleted_orgs FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

DO $$
DECLARE
  table_name text;
BEGIN
  FOREACH table_name IN ARRAY ARRAY['audit_heads', 'audit_log', 'deleted_orgs'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    EXECUTE format('CREATE POLICY system_every_org ON %I TO sluice_system USING (true)', table_name);
  END LOOP;
  FOREACH table_name IN ARRAY ARRAY['audit_heads', 'audit_log'] LOOP
    EXECUTE format(
      'CREATE POLICY app_own_org ON %I TO sluice_app USING (org = NULLIF(current_setting(''sluice.org'', true), '''')::bigint)', table_name);
  END LOOP;
  -- Every table with rows of an org. `sluice_erasure` finds those of deleted orgs by their primary keys, and deletes them.
  FOREACH table_name IN ARRAY ARRAY['orgs', 'api_keys', 'heads', 'events', 'dedup', 'subscriptions', 'leases', 'dead_letters',
      'audit_heads', 'audit_log'] LOOP
    EXECUTE format(
      'CREATE POLICY erasure_deleted_orgs ON %I TO sluice_erasure USING (EXISTS (SELECT FROM deleted_orgs AS d WHERE d.org = %1$I.org))',
      table_name);
    EXECUTE format('GRANT DELETE ON %I TO sluice_erasure', table_name);
    EXECUTE format('GRANT SELECT (%s) ON %I TO sluice_erasure',
      (SELECT string_agg(quote_ident(a.attname), ', ') FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = table_name::regclass AND i.indisprimary), table_name);
  END LOOP;
END
$$;
CREATE POLICY erasure_every_org ON deleted_orgs TO sluice_erasure USING (true);

-- From its deletion on, an org is nobody's: not found, not listed, its keys are no keys, and its number cannot be stored a second time.
ALTER POLICY system_every_org ON orgs USING (NOT EXISTS (SELECT FROM deleted_orgs AS d WHERE d.org = orgs.org));

GRANT SELECT, INSERT ON audit_log TO sluice_app;
GRANT SELECT, UPDATE (sequence, hash) ON audit_heads TO sluice_app;
GRANT INSERT ON audit_log TO sluice_system;
GRANT SELECT, INSERT, UPDATE (sequence, hash, closed) ON audit_heads TO sluice_system;
GRANT SELECT, INSERT ON deleted_orgs TO sluice_system;
GRANT SELECT, UPDATE (erased_at) ON deleted_orgs TO sluice_erasure;

-- Orgs that are there already: their chains begin now. As the role that may see them, since an owner that is no superuser may not.
SET LOCAL ROLE sluice_system;
INSERT INTO audit_heads (org, sequence, hash) SELECT org, 0, decode(repeat('00', 32), 'hex') FROM orgs;
RESET ROLE;
